//! Changes of what serves: each is a row, then every replica follows it.

use std::sync::Arc;

use belfry_store::{Paused, Release};

use super::serving::Serving;
use super::{Active, Registry, ReleaseError, RolledOut};
use crate::clock::now_ms;

impl Registry {
    /// Let a release serve its projector from the next event on. `projector`, if given, must be the release's.
    pub async fn activate(
        &self,
        release_id: i64,
        projector: Option<&str>,
        by: &str,
    ) -> Result<RolledOut, ReleaseError> {
        let _one_at_a_time = self.shared.change.lock().await;
        let release = self.release(release_id).await?;
        if let Some(projector) = projector.filter(|projector| *projector != release.projector) {
            return Err(ReleaseError::of_another(release_id, &release.projector, projector));
        }
        self.ensure_replayed(&release).await?;
        self.serve(vec![release], by).await.map(|mut rolled_out| rolled_out.remove(0))
    }

    /// Let several releases serve their projectors from the same event on: all of them, or none.
    pub async fn activate_all(&self, release_ids: &[i64], by: &str) -> Result<Vec<RolledOut>, ReleaseError> {
        let _one_at_a_time = self.shared.change.lock().await;
        let mut releases: Vec<Release> = Vec::with_capacity(release_ids.len());
        for release_id in release_ids {
            let release = self.release(*release_id).await?;
            if let Some(other) = releases.iter().find(|other| other.projector == release.projector) {
                return Err(ReleaseError::Twice(other.label(), release.label()));
            }
            self.ensure_replayed(&release).await?;
            releases.push(release);
        }
        self.serve(releases, by).await
    }

    /// Let the release serve again that served before. While a canary serves some, it is the canary that is taken back.
    pub async fn roll_back(&self, projector: &str, by: &str) -> Result<RolledOut, ReleaseError> {
        let _one_at_a_time = self.shared.change.lock().await;
        let rollout = self.rollout(projector).await?;
        if rollout.candidate.as_ref().is_some_and(|candidate| candidate.plan.is_some()) {
            let release = self.release(rollout.release_id).await?;
            self.end(&rollout, "rolled back", by).await?;
            return Ok(RolledOut { release, previous_release_id: rollout.previous_release_id });
        }
        let Some(previous) = rollout.previous_release_id else {
            return Err(ReleaseError::Unknown(format!(
                "{projector} has had one release only: there is none to go back to"
            )));
        };
        let releases = vec![self.release(previous).await?];
        let (before, loaded) = (self.serving(), self.load_all(&releases).await?);
        self.shared.store.roll_back(&releases[0], by, now_ms()).await?;
        self.follow_own(&before, releases, loaded, by).await.map(|mut rolled_out| rolled_out.remove(0))
    }

    async fn serve(&self, releases: Vec<Release>, by: &str) -> Result<Vec<RolledOut>, ReleaseError> {
        let (before, loaded) = (self.serving(), self.load_all(&releases).await?);
        self.shared.store.activate(&releases.iter().collect::<Vec<_>>(), by, now_ms()).await?;
        self.follow_own(&before, releases, loaded, by).await
    }

    /// Nothing is changed unless all of them can be loaded.
    async fn load_all(&self, releases: &[Release]) -> Result<Vec<Arc<Active>>, ReleaseError> {
        let mut loaded = Vec::with_capacity(releases.len());
        for release in releases {
            self.ensure_vouched_for(release).await?;
            loaded.push(self.load_once(release).await?);
        }
        Ok(loaded)
    }

    /// Serve what was changed here.
    async fn follow_own(
        &self,
        before: &Serving,
        releases: Vec<Release>,
        loaded: Vec<Arc<Active>>,
        by: &str,
    ) -> Result<Vec<RolledOut>, ReleaseError> {
        self.shared.others.rollout_changed();
        self.take_over(loaded).await?;
        let rolled_out = |release: Release| {
            let previous = before.of(&release.projector).map(|active| active.release_id);
            tracing::info!(release = release.label(), previous, by, "release activated");
            let previous_release_id = previous.filter(|previous| *previous != release.id);
            RolledOut { release, previous_release_id }
        };
        Ok(releases.into_iter().map(rolled_out).collect())
    }

    /// Take a release out that fails. Gives what serves its projector now. Whoever comes second finds it done.
    pub(crate) async fn suspend(&self, failing: &Active) -> Result<Option<Arc<Active>>, ReleaseError> {
        let _one_at_a_time = self.shared.change.lock().await;
        let serving = || self.serving().of(&failing.name).cloned();
        let still =
            serving().is_some_and(|active| active.release_id == failing.release_id && active.health.is_failing());
        if !still {
            return Ok(serving());
        }
        let release = self.release(failing.release_id).await?;
        let reason = failing.health.finding().unwrap_or_else(|| "it failed".into());
        if self.shared.store.suspend(&release, &reason, now_ms()).await? {
            metrics::counter!("belfry_suspensions_total", "projector" => failing.name.clone()).increment(1);
            tracing::error!(release = failing.label, reason, "release suspended");
            self.shared.others.rollout_changed();
        }
        if let Err(error) = self.take_over(Vec::new()).await {
            // Events must go on: what fails becomes a dead letter meanwhile.
            tracing::error!(%error, "what should serve instead cannot be loaded");
            return Ok(None);
        }
        Ok(serving())
    }

    /// Bring something to a halt with a reason, or let it go on.
    pub async fn pause(&self, what: &Paused, reason: Option<&str>, by: &str) -> Result<(), ReleaseError> {
        let _one_at_a_time = self.shared.change.lock().await;
        self.shared.store.pause(what, reason, by, now_ms()).await?;
        tracing::info!(?what, reason, by, "{}", if reason.is_some() { "brought to a halt" } else { "goes on" });
        self.shared.others.rollout_changed();
        self.take_over(Vec::new()).await
    }
}
