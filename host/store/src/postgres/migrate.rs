//! Bringing the schema up to date.

use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, Executor, PgConnection, PgPool};

use super::connect;
use crate::{OpenError, StoreSettings};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/postgres/belfry");
const GRANTS: &str = include_str!("../../../../migrations/postgres/grants.sql");
/// Partitions can be detached from and attached to a busy table, and `MERGE` and `DETACH` behave, from here on.
const OLDEST_SERVER: i32 = 150_000;

/// What a migration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigrateReport {
    /// The schema's version before; 0 if there was none.
    pub from: i64,
    /// Its version now.
    pub to: i64,
}

/// Bring the schema that the settings' URL names up to date, and give the roles that exist their rights.
pub async fn migrate(settings: &StoreSettings) -> Result<MigrateReport, OpenError> {
    migrate_with(connect::options(settings)?).await
}

/// Several replicas may start at once: the migrator takes a lock of its own.
pub(super) async fn migrate_with(options: PgConnectOptions) -> Result<MigrateReport, OpenError> {
    // A migration may take longer than a statement of the service.
    let options = options.options([("statement_timeout", "0")]);
    let mut connection = PgConnection::connect_with(&options).await?;
    check_server(&mut connection).await?;
    let from = version(&mut connection).await?;
    let to = needed();
    if from < to {
        let mut migrator = Migrator::with_migrations(MIGRATIONS.iter().cloned().collect());
        migrator.create_schema("belfry");
        migrator.dangerous_set_table_name("belfry._sqlx_migrations");
        migrator.run(&mut connection).await?;
        connection.execute(GRANTS).await?;
    }
    connection.close().await?;
    Ok(MigrateReport { from, to: to.max(from) })
}

/// Refuse a schema that this program cannot work with. A newer one is fine: what it adds is meant to work beside the
/// version before, or a rolling upgrade would not be possible.
pub(super) async fn check(pool: &PgPool) -> Result<(), OpenError> {
    let mut connection = pool.acquire().await?;
    check_server(&mut connection).await?;
    let (found, needed) = (version(&mut connection).await?, needed());
    if found < needed {
        return Err(OpenError::OldSchema { found, needed });
    }
    let cached: i64 =
        sqlx::query_scalar("SELECT seqcache FROM pg_sequence WHERE seqrelid = 'belfry.outbox_id'::regclass")
            .fetch_one(&mut *connection)
            .await?;
    if cached != 1 && !crate::sabotaged("cache-1") {
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

/// The version of the schema; 0 if there is none.
pub(super) async fn version(connection: &mut PgConnection) -> Result<i64, OpenError> {
    let there: bool = sqlx::query_scalar("SELECT to_regclass('belfry._sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        return Ok(0);
    }
    let version: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM belfry._sqlx_migrations WHERE success")
        .fetch_one(connection)
        .await?;
    Ok(version.unwrap_or(0))
}

pub(super) fn needed() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}
