//! From a release's bytes to a projector that can be asked.

use std::sync::Arc;

use belfry_model::{JsonObject, sabotaged};
use belfry_sandbox::{Description, Digest, NotAdmitted, Projector, Sandbox, digest};
use belfry_store::Release;
use tokio::sync::Semaphore;

use super::{Active, Health, Registry, ReleaseError};

/// What a component is loaded for. Compiling takes up to minutes, and one that is compiled in one lane holds up no other
/// lane. Within a lane one is loaded after the other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lane {
    /// An upload, a replay, and what a rollback would go back to: whatever can wait.
    Trying,
    /// A release that is to serve, or to be tried beside one that does.
    Serving,
    /// A release that served before and has to serve again.
    Back,
}

/// Room in each lane.
pub(super) struct Lanes([Arc<Semaphore>; 3]);

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
    /// A release to try out: one that is loaded already, or any other of the projector, loaded beside it.
    pub(crate) async fn loaded(&self, release_id: i64, projector: &str) -> Result<Arc<Active>, ReleaseError> {
        let active = match self.serving().loaded(release_id) {
            Some(loaded) => loaded.clone(),
            None => self.load_once(&self.release(release_id).await?, Lane::Trying).await?,
        };
        if active.name != projector {
            return Err(ReleaseError::of_another(release_id, &active.name, projector));
        }
        Ok(active)
    }

    /// One that is loaded already, or loaded now.
    pub(super) async fn load_once(&self, release: &Release, lane: Lane) -> Result<Arc<Active>, ReleaseError> {
        match self.serving().loaded(release.id) {
            Some(loaded) => Ok(loaded.clone()),
            None => Ok(Arc::new(self.load(release, lane).await?)),
        }
    }

    async fn load(&self, release: &Release, lane: Lane) -> Result<Active, ReleaseError> {
        let component = self.shared.store.component(&release.digest).await?.ok_or_else(|| {
            ReleaseError::Unknown(format!(
                "the component of release {} is missing from the store; upload it again",
                release.id
            ))
        })?;
        // Digests are what people sign and compare, so the bytes must be those that were pushed.
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
        Ok(Active {
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

    /// Compiling takes up to minutes, so it happens on a thread of its own. The lane is free again when that thread is done,
    /// also if the caller is gone by then.
    pub(super) async fn blocking<T: Send + 'static>(
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
        Ok(done.map_err(|error| ReleaseError::Unknown(format!("loading the component was cut off: {error}")))??)
    }
}

fn changed(release: &Release, how: &str) -> ReleaseError {
    ReleaseError::Changed(format!(
        "release {} is not what was pushed: {how}; someone changed the database: restore it from a backup, or push the \
         component again under a new version",
        release.label()
    ))
}
