//! Installing what a service calls, in the service's own database.

use crate::postgres::Schema;
use crate::{MigrateReport, OpenError, StoreSettings, migrations};

const GRANTS: &str = include_str!("../../../../migrations/postgres/submit/grants.sql");

/// What there is to install; apart from Belfry's own schema, though in a database of Belfry's it stands beside it.
const SUBMIT: Schema = Schema { migrations: &migrations::SUBMIT, table: "belfry._submit_migrations", grants: GRANTS };

/// Install `belfry.submit` in the database that the settings' URL names, or bring it up to date, and give the roles that
/// exist their rights. Nothing of Belfry's own is made there.
pub async fn migrate_submit(settings: &StoreSettings) -> Result<MigrateReport, OpenError> {
    SUBMIT.migrate(settings, true).await
}
