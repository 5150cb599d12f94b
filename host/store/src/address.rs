//! The database that a URL names.

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use crate::{OpenError, StoreSettings, postgres};

/// The kind of database that a store's URL names.
pub(crate) enum Address<'url> {
    /// An SQLite file.
    Sqlite(&'url Path),
    /// A database on a PostgreSQL server.
    Postgres,
}

impl StoreSettings {
    /// Checks the URL and the files that it names, as far as possible without opening the database.
    pub fn check(&self) -> Result<(), OpenError> {
        match self.address()? {
            Address::Sqlite(path) => check_file(path),
            Address::Postgres => {
                postgres::check_address(self)?;
                check_certificates(&self.url)
            }
        }
    }

    /// Returns the files of an SQLite store, whether or not they exist: the database, its journals, and the lock file.
    pub fn files(&self) -> Vec<PathBuf> {
        let Ok(Address::Sqlite(path)) = self.address() else { return Vec::new() };
        let beside = |suffix| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        ["", "-wal", "-shm", "-journal", ".lock"].map(beside).to_vec()
    }

    /// Returns the database that the URL names.
    pub(crate) fn address(&self) -> Result<Address<'_>, OpenError> {
        match self.url.split_once(':') {
            Some(("sqlite", path)) => file(path.trim_start_matches("//")).map(Address::Sqlite),
            Some(("postgres" | "postgresql", _)) => Ok(Address::Postgres),
            _ if self.url == ":memory:" => Err(OpenError::InMemory),
            _ => {
                // The rest of the URL may hold a password.
                let kind = self.url.split([':', '@', '?']).next().unwrap_or_default();
                Err(OpenError::UnknownUrl(kind.to_owned()))
            }
        }
    }
}

fn file(path: &str) -> Result<&Path, OpenError> {
    match path {
        "" => Err(OpenError::NoFile),
        _ if path.contains(":memory:") || path.contains("mode=memory") => Err(OpenError::InMemory),
        _ if path.contains('?') || path.starts_with("file:") => Err(OpenError::Parameters),
        path => Ok(Path::new(path)),
    }
}

/// Checks the path of an SQLite file. Missing folders above it are created, so the existing ones must be folders.
fn check_file(path: &Path) -> Result<(), OpenError> {
    let refused = |path: &Path, kind: ErrorKind| Err(OpenError::File(path.to_owned(), Error::from(kind)));
    if path.is_dir() {
        return refused(path, ErrorKind::IsADirectory);
    }
    match path.ancestors().skip(1).find(|folder| folder.exists()) {
        Some(there) if !there.is_dir() => refused(there, ErrorKind::NotADirectory),
        _ => Ok(()),
    }
}

/// Checks the files that the driver reads when it connects.
fn check_certificates(url: &str) -> Result<(), OpenError> {
    const FILES: [&str; 7] = ["sslrootcert", "ssl-root-cert", "ssl-ca", "sslcert", "ssl-cert", "sslkey", "ssl-key"];
    let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
    for (name, path) in parameters.split('&').filter_map(|parameter| parameter.split_once('=')) {
        // A percent-encoded path is left to the driver.
        if FILES.contains(&name) && !path.contains(['%', '+']) {
            let path = PathBuf::from(path);
            std::fs::File::open(&path).map_err(|error| OpenError::Certificate(path, error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str) -> Result<(), OpenError> {
        StoreSettings::new(url).check()
    }

    #[test]
    fn what_cannot_keep_anything_is_refused_by_name() {
        for url in ["sqlite:", "sqlite://"] {
            assert!(matches!(check(url), Err(OpenError::NoFile)), "{url}");
        }
        for url in ["sqlite::memory:", "sqlite://:memory:", ":memory:", "sqlite:file::memory:", "sqlite:x?mode=memory"]
        {
            assert!(matches!(check(url), Err(OpenError::InMemory)), "{url}");
        }
        for url in ["sqlite:belfry.db?mode=rwc", "sqlite:file:belfry.db"] {
            assert!(matches!(check(url), Err(OpenError::Parameters)), "{url}");
        }
        for url in ["mysql://host/database", "belfry.db", ""] {
            assert!(matches!(check(url), Err(OpenError::UnknownUrl(_))), "{url}");
        }
        assert!(matches!(check("postgres://host:port/database"), Err(OpenError::Address)));
        let missing = check("postgres://host/database?sslmode=verify-full&sslrootcert=/nowhere/ca.pem");
        assert!(matches!(missing, Err(OpenError::Certificate(..))), "{missing:?}");
    }

    #[test]
    fn a_file_has_only_folders_above_it() {
        let folder = std::env::temp_dir();
        assert!(matches!(check(&format!("sqlite:{}", folder.display())), Err(OpenError::File(..))));
        assert!(matches!(check("sqlite:/dev/null/belfry.db"), Err(OpenError::File(..))));
        let new = folder.join("not-there-yet/belfry.db");
        assert!(check(&format!("sqlite:{}", new.display())).is_ok());
        assert!(check("sqlite:belfry.db").is_ok() && check("postgres://belfry@host/belfry").is_ok());
    }
}
