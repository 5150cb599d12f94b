//! Migrations of the schema.

use std::sync::LazyLock;

use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::time::timeout;

use super::connect;
use super::connections::Session;
use crate::{OpenError, StoreSettings, migrations};

const GRANTS: &str = include_str!("../../../../migrations/postgres/grants.sql");
/// The first version where partitions can be detached from and attached to a busy table, and where `MERGE` and `DETACH`
/// work reliably.
const OLDEST_SERVER: i32 = 150_000;

/// Belfry's own schema: the log and everything that belongs to it.
const BELFRY: Schema = Schema { migrations: &migrations::POSTGRES, table: "belfry._sqlx_migrations", grants: GRANTS };

/// The result of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigrateReport {
    /// The schema's version before; 0 if there was none.
    pub from: i64,
    /// The schema's version now.
    pub to: i64,
}

/// Migrations that belong together, and the privileges on what they create.
pub(crate) struct Schema {
    pub(crate) migrations: &'static LazyLock<Migrator>,
    /// The table that records which migrations were applied.
    pub(crate) table: &'static str,
    pub(crate) grants: &'static str,
}

/// Migrates the schema that the settings' URL names, and grants privileges to those roles that exist.
pub async fn migrate(settings: &StoreSettings) -> Result<MigrateReport, OpenError> {
    BELFRY.migrate(settings, true).await
}

/// Migrates the schema at the start of a service, which need not own the schema if there is nothing to do.
pub(super) async fn migrate_at_start(settings: &StoreSettings) -> Result<MigrateReport, OpenError> {
    BELFRY.migrate(settings, false).await
}

impl Schema {
    /// Migrates the schema. Several replicas may start at once: the migrator takes its own lock. With `grant`, the
    /// roles that exist get their privileges even if the schema was up to date, because they may have been created
    /// later.
    pub(crate) async fn migrate(&self, settings: &StoreSettings, grant: bool) -> Result<MigrateReport, OpenError> {
        // A migration may take longer than the service's statements.
        let options = connect::options(settings)?.options([("statement_timeout", "0")]);
        let connecting = timeout(settings.connect_timeout, PgConnection::connect_with(&options)).await;
        let mut connection = connecting.map_err(|_| sqlx::Error::PoolTimedOut)??;
        check_server(&mut connection).await?;
        let from = self.version(&mut connection).await?;
        let to = self.needed();
        if from < to {
            let mut migrator = Migrator::with_migrations(self.migrations.iter().cloned().collect());
            // The owner of the schema may lack the privilege to create schemas.
            if !schema_exists(&mut connection).await? {
                migrator.create_schema("belfry");
            }
            migrator.dangerous_set_table_name(self.table);
            migrator.run(&mut connection).await?;
        }
        // This version does not grant privileges on what a newer version created.
        if from < to || (grant && from == to) {
            connection.execute(self.grants).await?;
        }
        connection.close().await?;
        Ok(MigrateReport { from, to: to.max(from) })
    }

    /// Returns the version of the schema; 0 if there is none.
    async fn version(&self, connection: &mut PgConnection) -> Result<i64, OpenError> {
        let there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(self.table)
            .fetch_one(&mut *connection)
            .await?;
        if !there {
            return Ok(0);
        }
        let query = format!("SELECT max(version) FROM {} WHERE success", self.table);
        let version: Option<i64> = sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(connection).await?;
        Ok(version.unwrap_or(0))
    }

    fn needed(&self) -> i64 {
        self.migrations.iter().map(|migration| migration.version).max().unwrap_or(0)
    }
}

async fn schema_exists(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT to_regnamespace('belfry') IS NOT NULL").fetch_one(connection).await
}

/// Rejects a schema that this program cannot work with. A newer schema is accepted: its additions are designed to work
/// with the previous version, as a rolling upgrade requires.
pub(super) async fn check(session: &mut Session) -> Result<(), OpenError> {
    let connection = session.connection();
    check_server(connection).await?;
    let (found, needed) = (BELFRY.version(connection).await?, BELFRY.needed());
    if found < needed {
        return Err(OpenError::OldSchema { found, needed });
    }
    let cached: i64 =
        sqlx::query_scalar("SELECT seqcache FROM pg_sequence WHERE seqrelid = 'belfry.outbox_id'::regclass")
            .fetch_one(connection)
            .await?;
    if cached != 1 && !belfry_model::sabotaged("cache-1") {
        return Err(OpenError::Changed(format!(
            "the sequence belfry.outbox_id caches {cached} ids, so positions would become visible out of order; \
             run ALTER SEQUENCE belfry.outbox_id CACHE 1"
        )));
    }
    Ok(())
}

async fn check_server(connection: &mut PgConnection) -> Result<(), OpenError> {
    let (number, name): (i32, String) =
        sqlx::query_as("SELECT current_setting('server_version_num')::int, current_setting('server_version')")
            .fetch_one(connection)
            .await?;
    if number < OLDEST_SERVER { Err(OpenError::OldServer(name)) } else { Ok(()) }
}

/// Returns the version of Belfry's own schema; 0 if there is none.
pub(super) async fn version(connection: &mut PgConnection) -> Result<i64, OpenError> {
    BELFRY.version(connection).await
}

/// Returns the version that this program requires.
pub(super) fn needed() -> i64 {
    BELFRY.needed()
}
