//! Installs what a service calls, in the service's own database.

use crate::postgres::Schema;
use crate::{MigrateReport, OpenError, StoreSettings, migrations};

const GRANTS: &str = include_str!("../../../../migrations/postgres/submit/grants.sql");

/// The schema to install. It is separate from Belfry's own schema, although both can be in one database.
const SUBMIT: Schema = Schema { migrations: &migrations::SUBMIT, table: "belfry._submit_migrations", grants: GRANTS };

/// Installs `belfry.submit` in the database that the settings' URL names, or updates it, and grants privileges to those
/// roles that exist. Nothing of Belfry's own schema is created there.
pub async fn migrate_submit(settings: &StoreSettings) -> Result<MigrateReport, OpenError> {
    SUBMIT.migrate(settings, true).await
}
