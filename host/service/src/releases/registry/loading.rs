//! Turns a release's bytes into a projector that can be called.

use std::sync::Arc;

use belfry_model::{JsonObject, sabotaged};
use belfry_sandbox::{Description, Digest, NotAdmitted, Projector, Sandbox, digest};
use belfry_store::Release;
use tokio::sync::Semaphore;

use super::Registry;
use crate::releases::{Health, LoadedRelease, ReleaseError};

/// What a component is loaded for. Compiling takes up to minutes, and a compilation in one lane does not delay the other
/// lanes. Within a lane, components are loaded one after the other.
#[derive(Clone, Copy, Debug)]
pub(in crate::releases) enum Lane {
    /// An upload, a replay, or the target of a possible rollback: anything that can wait.
    Trying,
    /// A release that is to serve, or to be tried next to the serving release.
    Serving,
    /// A release that served before and has to serve again.
    Back,
}

/// One permit for each lane.
pub(in crate::releases) struct Lanes([Arc<Semaphore>; 3]);

impl Default for Lanes {
    fn default() -> Self {
        Self([(); 3].map(|()| Arc::new(Semaphore::new(1))))
    }
}

impl Lanes {
    fn of(&self, lane: Lane) -> Arc<Semaphore> {
        self.0[lane as usize].clone()
    }
}

impl Registry {
    /// Returns a release of the projector to be tried, and loads it if it is not loaded yet.
    pub(crate) async fn loaded(&self, release_id: i64, projector: &str) -> Result<Arc<LoadedRelease>, ReleaseError> {
        let active = match self.serving().loaded(release_id) {
            Some(loaded) => loaded.clone(),
            None => self.load_once(&self.release(release_id).await?, Lane::Trying).await?,
        };
        if active.name != projector {
            return Err(ReleaseError::of_another(release_id, &active.name, projector));
        }
        Ok(active)
    }

    /// Returns a release, and loads it if it is not loaded yet.
    pub(in crate::releases) async fn load_once(
        &self,
        release: &Release,
        lane: Lane,
    ) -> Result<Arc<LoadedRelease>, ReleaseError> {
        match self.serving().loaded(release.id) {
            Some(loaded) => Ok(loaded.clone()),
            None => Ok(Arc::new(self.load(release, lane).await?)),
        }
    }

    async fn load(&self, release: &Release, lane: Lane) -> Result<LoadedRelease, ReleaseError> {
        let component = self.shared.store.component(&release.digest).await?.ok_or_else(|| {
            ReleaseError::Unknown(format!(
                "the component of release {} is missing from the store; upload it again",
                release.id
            ))
        })?;
        // People sign and compare digests, so the bytes must be the ones that were pushed.
        let found = digest(&component);
        if found != Digest(release.digest) && !sabotaged("component-digest") {
            return Err(changed(release, &format!("its bytes have sha256 {found}, not {}", Digest(release.digest))));
        }
        let config: JsonObject = release.config.parse().map_err(|error| {
            changed(release, &format!("its configuration cannot be read as a JSON object: {error}"))
        })?;
        let (projector, configuration) = self
            .blocking(lane, move |sandbox| {
                let projector: Projector = sandbox.load(&component)?;
                let configuration = projector.configure(&config)?;
                Ok((projector, configuration))
            })
            .await?;
        let Description { name, version, .. } = projector.description();
        if (name, version) != (&release.projector, &release.version) {
            return Err(changed(release, &format!("it describes itself as {name} {version}")));
        }
        Ok(LoadedRelease {
            release_id: release.id,
            name: release.projector.clone(),
            label: release.label(),
            description: projector.description().clone(),
            projector: Some(projector),
            configuration: Arc::new(configuration),
            halt: None,
            health: Health::default(),
        })
    }

    /// Runs work on a dedicated thread, because compiling takes up to minutes. The lane is free again when the work is
    /// done, even if the caller is gone by then.
    pub(in crate::releases) async fn blocking<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce(&Sandbox) -> Result<T, NotAdmitted> + Send + 'static,
    ) -> Result<T, ReleaseError> {
        let stopping = |_| ReleaseError::Unknown("the service is stopping; try again".into());
        let room = self.shared.lanes.of(lane).acquire_owned().await.map_err(stopping)?;
        let sandbox = self.shared.sandbox.clone();
        let work = move || {
            let done = work(&sandbox);
            drop(room);
            done
        };
        let done = tokio::task::spawn_blocking(work).await;
        Ok(done.map_err(|error| ReleaseError::Unknown(format!("loading the component was aborted: {error}")))??)
    }
}

fn changed(release: &Release, how: &str) -> ReleaseError {
    ReleaseError::Changed(format!(
        "release {} differs from what was pushed: {how}; the database was modified outside belfry: restore it from a \
         backup, or push the component again under a new version",
        release.label()
    ))
}
