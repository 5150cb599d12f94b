//! The database's file. While the store is open, its path must lead to the file that was opened: a connection that is opened
//! later would otherwise see another database than the others.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::{OpenError, StoreError};

/// Events are personal data: only the owner of the process may read them. SQLite gives its other files the same mode.
const MODE: u32 = 0o600;

/// A file, known by more than its path.
pub(super) struct DatabaseFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl DatabaseFile {
    /// Open the file, or make an empty one, which SQLite takes for a new database.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let opened = open_private(path).and_then(|file| file.metadata());
        let metadata = opened.map_err(|error| OpenError::File(path.to_owned(), error))?;
        Ok(Self { path: path.to_owned(), identity: identity(&metadata) })
    }

    /// Refuse if the path leads to another file by now, or to none.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let happened = match std::fs::metadata(&self.path) {
            Ok(metadata) if identity(&metadata) == self.identity => return Ok(()),
            Ok(_) => "was replaced by another file",
            Err(error) if error.kind() == io::ErrorKind::NotFound => "was moved or deleted",
            Err(error) => return Err(StoreError::Failed(format!("cannot look at {}: {error}", self.path.display()))),
        };
        Err(StoreError::Failed(format!(
            "the database file {} {happened} while Belfry uses it, so no event is taken; stop Belfry, put the file in its \
             place that is meant to be used, and start Belfry again. To go on with the file that was in use, move it back",
            self.path.display()
        )))
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Open a file for writing, or make one that only its owner may read. An existing file keeps its mode.
pub(super) fn open_private(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).mode(MODE).open(path)
}
