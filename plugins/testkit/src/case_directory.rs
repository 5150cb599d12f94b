use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::case_file::case_name;

/// The reason why there are no cases to run. Running no cases must not look like success.
#[derive(Debug, thiserror::Error)]
pub enum CasesError {
    /// The folder cannot be read.
    #[error("cannot read the cases in {0}: {1}; specify the folder that contains them")]
    Unreadable(PathBuf, io::Error),
    /// The folder contains no cases.
    #[error("no cases in {0}; write one as NAME.json directly in that folder")]
    Empty(PathBuf),
    /// No case matches the filter.
    #[error("no case in {directory} has {filter:?} in its name; the cases are: {names}")]
    Filtered {
        /// The folder.
        directory: PathBuf,
        /// The text that a name must contain.
        filter: String,
        /// The names of all cases.
        names: String,
    },
}

/// Returns the case files directly in a folder, sorted by name, whose names contain `filter`.
pub(crate) fn case_files(directory: &Path, filter: Option<&str>) -> Result<Vec<PathBuf>, CasesError> {
    let unreadable = |error| CasesError::Unreadable(directory.to_owned(), error);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|ending| ending == "json") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(CasesError::Empty(directory.to_owned()));
    }
    let Some(filter) = filter else { return Ok(files) };
    let names = files.iter().map(|path| case_name(path)).collect::<Vec<_>>().join(", ");
    files.retain(|path| case_name(path).contains(filter));
    if files.is_empty() {
        return Err(CasesError::Filtered { directory: directory.to_owned(), filter: filter.to_owned(), names });
    }
    Ok(files)
}
