use anyhow::Result;
use belfry_service::config::{Config, load};
use belfry_service::{Service, ServiceSettings};
use tempfile::TempDir;

use crate::client::{get, use_ring};
use crate::{Client, belfry_binary};

/// A service in this process, on free ports, with its own store.
pub struct TestService {
    service: Service,
    settings: ServiceSettings,
    directory: TempDir,
}

impl TestService {
    /// Starts a service with the default projector.
    pub async fn start() -> Result<Self> {
        Self::start_with(belfry_artifacts::TEACHER_RESULTS, &[]).await
    }

    /// Starts a service with another default projector, and with settings such as `("ingest.max_event_bytes", "4096")`.
    pub async fn start_with(default_projector: &'static [u8], settings: &[(&str, &str)]) -> Result<Self> {
        use_ring();
        let directory = TempDir::new()?;
        let config = config(&directory, settings)?;
        let settings = ServiceSettings { config, default_projector, compiler: belfry_binary()? };
        Ok(Self { service: Service::start(settings.clone()).await?, settings, directory })
    }

    /// Stops it and starts it again on the same store.
    pub async fn restart(self) -> Result<Self> {
        self.service.stop().await;
        let Self { settings, directory, .. } = self;
        Ok(Self { service: Service::start(settings.clone()).await?, settings, directory })
    }

    /// Stops it cleanly.
    pub async fn stop(self) {
        self.service.stop().await;
    }

    /// Returns a client of its API.
    pub fn client(&self) -> Client {
        Client::new(format!("http://{}", self.service.http_address()))
    }

    /// Returns the URL of its operations endpoints.
    pub fn ops_url(&self) -> String {
        format!("http://{}", self.service.ops_address())
    }

    /// Returns the metrics in Prometheus' text format. The counters cover this whole process.
    pub async fn metrics(&self) -> Result<String> {
        Ok(get(format!("http://{}/metrics", self.service.ops_address())).await?.text().await?)
    }

    /// Returns the configuration that it was started with.
    pub fn config(&self) -> &Config {
        &self.settings.config
    }
}

fn config(directory: &TempDir, settings: &[(&str, &str)]) -> Result<Config> {
    let url = format!("sqlite:{}", directory.path().join("belfry.db").display());
    let own = [("http.listen", "127.0.0.1:0"), ("ops.listen", "127.0.0.1:0"), ("store.url", url.as_str())];
    let flags: Vec<(String, String)> =
        own.iter().chain(settings).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Ok(load(None, &flags)?.config)
}
