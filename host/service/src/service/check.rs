//! The checks of a configuration that need no server.

use std::error::Error;
use std::time::Duration;

use belfry_store::SubmittedSettings;

use crate::access::Tokens;
use crate::config::{Config, DeliveryMode, PostgresSource};
use crate::releases::TrustedKeys;
use crate::telemetry::log_filter;
use crate::{kafka, redis};

impl Config {
    /// Checks what [`load`](crate::config::load) does not: the files that settings refer to, the URLs in them, the trusted keys, and
    /// whether the clients of Kafka and Redis accept their settings. Connects to no server, and creates nothing.
    ///
    /// # Errors
    ///
    /// Returns an error for the first problem found.
    pub fn check(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        log_filter(&self.log)?;
        if let Some(path) = &self.http.tokens_file {
            Tokens::read(path)?;
        }
        TrustedKeys::configured(&self.releases)?;
        self.store.settings()?.check()?;
        self.check_cache()?;
        redis::Client::new(&self.redis)?;
        let publishes = self.sink.kafka.enabled && self.delivery.mode == DeliveryMode::Send;
        if publishes || self.reads_kafka() {
            kafka::Client::new(&self.kafka, self.replica.name.as_deref())?;
        }
        self.source.postgres.iter().try_for_each(|source| self.check_source(source))
    }

    /// Checks that the directory of compiled rules can be created at the start, along with its parents.
    fn check_cache(&self) -> Result<(), String> {
        let Some(directory) = self.cache_directory() else { return Ok(()) };
        match directory.ancestors().find(|directory| directory.exists()) {
            Some(there) if !there.is_dir() => Err(format!(
                "sandbox.cache_directory: cannot use {}: {} is not a directory; choose another",
                directory.display(),
                there.display()
            )),
            _ => Ok(()),
        }
    }

    fn check_source(&self, source: &PostgresSource) -> Result<(), Box<dyn Error + Send + Sync>> {
        let settings = SubmittedSettings {
            url: source.address()?,
            connect_timeout: Duration::from_millis(self.store.connect_timeout_ms),
            statement_timeout: Duration::from_millis(self.store.statement_timeout_ms),
        };
        settings.check().map_err(|error| format!("source.postgres {}: {error}", source.name).into())
    }
}
