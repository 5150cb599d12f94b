//! Commands that access the database or the cluster directly, not through a service.

use belfry_service::config::Config;
use belfry_store::{OpenError, Store, StoreSettings};

use crate::exit::{Exit, Fault};

/// Opens the configured store, beside a service that may be running. It must exist.
pub(crate) async fn open_store(config: &Config) -> Result<Store, Fault> {
    open(&settings(config)?.beside_the_service()).await
}

/// Opens the configured store as the service does, and creates it if it does not exist.
pub(crate) async fn create_store(config: &Config) -> Result<Store, Fault> {
    open(&settings(config)?).await
}

fn settings(config: &Config) -> Result<StoreSettings, Fault> {
    config.store.settings().map_err(|error| Fault::new(Exit::Configuration, error.to_string()))
}

async fn open(settings: &StoreSettings) -> Result<Store, Fault> {
    Store::open(settings).await.map_err(|error| {
        let message = match &error {
            OpenError::Locked(path) => {
                format!(
                    "{} is in use; stop the service first: only one process can use an SQLite store",
                    path.display()
                )
            }
            error => error.to_string(),
        };
        Fault::new(exit_for(&error), message)
    })
}

/// Returns the exit code of a command that cannot open its store.
pub(crate) fn exit_for(error: &OpenError) -> Exit {
    match error {
        OpenError::UnknownUrl(_)
        | OpenError::NoFile
        | OpenError::InMemory
        | OpenError::Parameters
        | OpenError::Certificate(..)
        | OpenError::Address
        | OpenError::Missing(_) => Exit::Configuration,
        OpenError::Locked(_)
        | OpenError::Migrate(_)
        | OpenError::OldSchema { .. }
        | OpenError::OldServer(_)
        | OpenError::Changed(_) => Exit::Refused,
        OpenError::File(..) | OpenError::Database(_) => Exit::Failure,
    }
}

/// Returns the author of such a change for the audit log: `direct:NAME` for the operating system user NAME, or `direct`
/// if the user is unknown.
pub fn by() -> String {
    whoami::username().map_or_else(|_| "direct".to_owned(), |name| format!("direct:{name}"))
}
