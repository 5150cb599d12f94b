//! The database file. While the store is open, its path must refer to the file that was opened. Otherwise a connection
//! that is opened later would use another database than the others.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::{OpenError, StoreError};

/// Events are personal data: only the owner of the process may read them. SQLite creates its other files with the same
/// mode.
const MODE: u32 = 0o600;

/// A file, identified by more than its path.
pub(super) struct DatabaseFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl DatabaseFile {
    /// Opens the file, or creates an empty one, which SQLite treats as a new database.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let opened = open_private(path).and_then(|file| file.metadata());
        let metadata = opened.map_err(|error| OpenError::File(path.to_owned(), error))?;
        Ok(Self { path: path.to_owned(), identity: identity(&metadata) })
    }

    /// Returns an error if the path now refers to another file, or to none.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let happened = match std::fs::metadata(&self.path) {
            Ok(metadata) if identity(&metadata) == self.identity => return Ok(()),
            Ok(_) => "was replaced by another file",
            Err(error) if error.kind() == io::ErrorKind::NotFound => "was moved or deleted",
            Err(error) => return Err(StoreError::Failed(format!("cannot check {}: {error}", self.path.display()))),
        };
        Err(StoreError::Failed(format!(
            "the database file {} {happened} while Belfry was using it, so no event is accepted; stop Belfry, put the \
             intended file in its place, and start Belfry again. To continue with the file that was in use, move it back",
            self.path.display()
        )))
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Opens a file for writing, or creates one that only its owner may read. An existing file keeps its mode.
pub(super) fn open_private(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).mode(MODE).open(path)
}
