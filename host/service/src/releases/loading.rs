//! From a release's bytes to a projector that can be asked.

use std::sync::Arc;

use belfry_model::JsonObject;
use belfry_sandbox::{NotAdmitted, Projector, Sandbox};
use belfry_store::Release;

use super::{Active, Health, Registry, ReleaseError};

impl Registry {
    /// A release to try out: one that is loaded already, or any other of the projector, loaded beside it.
    pub(crate) async fn loaded(&self, release_id: i64, projector: &str) -> Result<Arc<Active>, ReleaseError> {
        let active = self.load_by_id(release_id).await?;
        if active.name != projector {
            return Err(ReleaseError::of_another(release_id, &active.name, projector));
        }
        Ok(active)
    }

    /// One that is loaded already, or loaded now.
    pub(super) async fn load_once(&self, release: &Release) -> Result<Arc<Active>, ReleaseError> {
        match self.serving().loaded(release.id) {
            Some(loaded) => Ok(loaded.clone()),
            None => Ok(Arc::new(self.load(release).await?)),
        }
    }

    /// The same by its number.
    pub(super) async fn load_by_id(&self, release_id: i64) -> Result<Arc<Active>, ReleaseError> {
        if let Some(loaded) = self.serving().loaded(release_id) {
            return Ok(loaded.clone());
        }
        let release = self.release(release_id).await?;
        Ok(Arc::new(self.load(&release).await?))
    }

    async fn load(&self, release: &Release) -> Result<Active, ReleaseError> {
        let component = self.shared.store.component(&release.digest).await?.ok_or_else(|| {
            ReleaseError::Unknown(format!(
                "the component of release {} is missing from the store; upload it again",
                release.id
            ))
        })?;
        let config: JsonObject = release.config.parse().map_err(|error| {
            ReleaseError::Unknown(format!("the configuration of release {} cannot be read: {error}", release.id))
        })?;
        let (projector, configuration) = self
            .blocking(move |sandbox| {
                let projector: Projector = sandbox.load(&component)?;
                let configuration = projector.configure(&config)?;
                Ok((projector, configuration))
            })
            .await?;
        Ok(Active {
            release_id: release.id,
            name: release.projector.clone(),
            label: release.label(),
            projector,
            configuration: Arc::new(configuration),
            halt: None,
            health: Health::default(),
        })
    }

    /// Compiling takes up to seconds, so it happens where that holds up nobody.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Sandbox) -> Result<T, NotAdmitted> + Send + 'static,
    ) -> Result<T, ReleaseError> {
        let _room = self.shared.loading.acquire().await.map_err(|_| ReleaseError::Unknown("stopping".into()))?;
        let sandbox = self.shared.sandbox.clone();
        let done = tokio::task::spawn_blocking(move || work(&sandbox)).await;
        Ok(done.map_err(|error| ReleaseError::Unknown(format!("loading the component was cut off: {error}")))??)
    }
}
