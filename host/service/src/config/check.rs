//! The checks of a configuration that need no server.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use belfry_store::SubmittedSettings;

use super::{Config, DeliveryMode, PostgresSource, Tokens};
use crate::kafka;
use crate::redis;
use crate::telemetry::log_filter;

impl Config {
    /// Checks what [`load`](super::load) does not: the files that settings refer to, the URLs in them, and whether the
    /// clients of Kafka and Redis accept their settings. Connects to no server, and creates nothing.
    ///
    /// # Errors
    ///
    /// Returns an error for the first problem found.
    pub fn check(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        log_filter(&self.log)?;
        if let Some(path) = &self.http.tokens_file {
            Tokens::read(path)?;
        }
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

    /// Returns a problem if both listeners would use the same address.
    pub(super) fn listen_problem(&self) -> Option<String> {
        let (http, ops) = (self.http.listen, self.ops.listen);
        let overlap = http.ip() == ops.ip() || http.ip().is_unspecified() || ops.ip().is_unspecified();
        (http.port() != 0 && http.port() == ops.port() && overlap)
            .then(|| format!("ops.listen: {ops} conflicts with http.listen; choose another port"))
    }

    /// Returns a problem if a setting that must not be blank is. It would be rejected late, or have another meaning.
    pub(super) fn blank_problem(&self) -> Option<String> {
        let path = |path: &Option<std::path::PathBuf>| path.as_deref().map(Path::as_os_str).map(|path| path.is_empty());
        let blank = |text: &Option<String>| text.as_deref().map(|text| text.trim().is_empty());
        let texts = [
            ("http.tokens_file", path(&self.http.tokens_file)),
            ("store.url_file", path(&self.store.url_file)),
            ("redis.url", blank(&self.redis.url)),
            ("redis.url_file", path(&self.redis.url_file)),
            ("redis.ca_file", path(&self.redis.ca_file)),
            ("sandbox.cache_directory", path(&self.sandbox.cache_directory)),
            ("kafka.group", Some(self.kafka.group.trim().is_empty())),
            ("kafka.behind", blank(&self.kafka.behind)),
            ("notification.source_service", blank(&self.notification.source_service)),
            ("replica.name", blank(&self.replica.name)),
        ];
        let (name, _) = texts.into_iter().find(|(_, blank)| *blank == Some(true))?;
        Some(format!("{name}: is blank; give it a value, or leave it out"))
    }
}
