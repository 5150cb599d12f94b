//! The migrations that are compiled into this program.

use std::sync::LazyLock;

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// Migrations of an SQLite database.
pub(crate) static SQLITE: LazyLock<Migrator> = LazyLock::new(|| migrator(SQLITE_FILES));
/// Migrations of Belfry's own schema on PostgreSQL.
pub(crate) static POSTGRES: LazyLock<Migrator> = LazyLock::new(|| migrator(POSTGRES_FILES));
/// Migrations of the schema that services use in their own databases to submit events.
pub(crate) static SUBMIT: LazyLock<Migrator> = LazyLock::new(|| migrator(SUBMIT_FILES));

/// Builds a migrator from files named `NNNN_what_it_does`. Version, description and checksum are stored in every
/// database, so all three are derived in the same way as sqlx derives them from a folder.
fn migrator(files: &'static [(&str, &str)]) -> Migrator {
    let migrations = files.iter().filter_map(|&(name, sql)| {
        let (version, description) = name.split_once('_')?;
        let no_transaction = sql.starts_with("-- no-transaction");
        let description = description.replace('_', " ").into();
        let kind = MigrationType::Simple;
        Some(Migration::new(version.parse().ok()?, description, kind, sql.into_sql_str(), no_transaction))
    });
    Migrator::with_migrations(migrations.collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[tokio::test]
    async fn they_are_what_sqlx_finds_in_the_folders() {
        for (folder, ours) in [("sqlite", &SQLITE), ("postgres/belfry", &POSTGRES), ("postgres/submit", &SUBMIT)] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations").join(folder);
            let expected = Migrator::new(path).await.unwrap();
            let fields = |migrator: &Migrator| -> Vec<_> {
                let all = migrator.iter();
                all.map(|one| (one.version, one.description.clone(), one.checksum.clone(), one.no_tx)).collect()
            };
            assert_eq!(fields(ours), fields(&expected), "{folder}");
            assert!(!fields(ours).is_empty(), "{folder}");
        }
    }
}
