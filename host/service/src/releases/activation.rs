//! Changes to the serving releases. Each change is a row, which every replica then follows.
//!
//! A change loads the releases that it needs before it waits for its turn. So a pause, a suspension or a rollback never
//! waits for the compiler.

use std::sync::Arc;
use std::time::Duration;

use belfry_store::{Paused, Release, Rollout, now_ms};
use tokio::time::timeout;

use super::registry::Lane;
use super::serving::Serving;
use super::{LoadedRelease, Registry, ReleaseError, RolledOut};

/// How long events of a suspended release wait for the previous one to be loaded. After that they become dead letters.
const REPLACED_WITHIN: Duration = Duration::from_secs(1);

impl Registry {
    /// Activates a release for its projector, from the next event on. `projector`, if given, must be the release's.
    pub async fn activate(
        &self,
        release_id: i64,
        projector: Option<&str>,
        by: &str,
    ) -> Result<RolledOut, ReleaseError> {
        let release = self.release(release_id).await?;
        if let Some(projector) = projector.filter(|projector| *projector != release.projector) {
            return Err(ReleaseError::of_another(release_id, &release.projector, projector));
        }
        self.serve(vec![release], by).await.map(|mut rolled_out| rolled_out.remove(0))
    }

    /// Activates several releases for their projectors from the same event on: all of them, or none.
    pub async fn activate_all(&self, release_ids: &[i64], by: &str) -> Result<Vec<RolledOut>, ReleaseError> {
        let mut releases: Vec<Release> = Vec::with_capacity(release_ids.len());
        for release_id in release_ids {
            let release = self.release(*release_id).await?;
            if let Some(other) = releases.iter().find(|other| other.projector == release.projector) {
                return Err(ReleaseError::Twice(other.label(), release.label()));
            }
            releases.push(release);
        }
        self.serve(releases, by).await
    }

    /// Activates the previous release again. While a canary is running, only the canary is rolled back. A retired projector
    /// gets its release back.
    pub async fn roll_back(&self, projector: &str, by: &str) -> Result<RolledOut, ReleaseError> {
        let rollout = self.rollout(projector).await?;
        if rollout.candidate.as_ref().is_some_and(|candidate| candidate.plan.is_some()) {
            let _one_at_a_time = self.shared.change.lock().await;
            let release = self.release(rollout.release_id).await?;
            self.end(&rollout, "rolled back", by).await?;
            return Ok(RolledOut { release, previous_release_id: rollout.previous_release_id });
        }
        let back_to = if rollout.retired { Some(rollout.release_id) } else { rollout.previous_release_id };
        let Some(back_to) = back_to else {
            return Err(ReleaseError::Unknown(format!(
                "{projector} has had only one release: there is none to roll back to"
            )));
        };
        let releases = vec![self.release(back_to).await?];
        let loaded = self.load_all(&releases, Lane::Back).await?;
        let _one_at_a_time = self.shared.change.lock().await;
        if self.rollout(projector).await?.id != rollout.id {
            return Err(changed_meanwhile(projector));
        }
        let before = self.serving();
        self.shared.store.roll_back(&releases[0], by, now_ms()).await?;
        self.follow_own(&before, releases, loaded, by).await.map(|mut rolled_out| rolled_out.remove(0))
    }

    async fn serve(&self, releases: Vec<Release>, by: &str) -> Result<Vec<RolledOut>, ReleaseError> {
        for release in &releases {
            self.ensure_replayed(release).await?;
        }
        let known = self.shared.store.rollouts().await?;
        let loaded = self.load_all(&releases, Lane::Serving).await?;
        let _one_at_a_time = self.shared.change.lock().await;
        self.ensure_unchanged(&known, &releases).await?;
        let before = self.serving();
        self.shared.store.activate(&releases.iter().collect::<Vec<_>>(), by, now_ms()).await?;
        self.follow_own(&before, releases, loaded, by).await
    }

    /// Loads the releases for a change. Fails if any of them cannot be loaded, before anything is changed.
    async fn load_all(&self, releases: &[Release], lane: Lane) -> Result<Vec<Arc<LoadedRelease>>, ReleaseError> {
        let mut loaded = Vec::with_capacity(releases.len());
        for release in releases {
            self.ensure_vouched_for(release).await?;
            loaded.push(self.load_once(release, lane).await?);
        }
        Ok(loaded)
    }

    /// Refuses to override a decision that was made while the releases were loaded. If a failing release was suspended in
    /// the meantime, that is no reason to refuse another.
    async fn ensure_unchanged(&self, known: &[Rollout], releases: &[Release]) -> Result<(), ReleaseError> {
        let of = |rollouts: &[Rollout], release: &Release| {
            rollouts.iter().find(|rollout| rollout.projector == release.projector).cloned()
        };
        let now = self.shared.store.rollouts().await?;
        for release in releases {
            let Some(last) = of(&now, release).filter(|last| last.created_by != super::BELFRY) else { continue };
            if of(known, release).is_none_or(|then| then.id != last.id) && last.release_id != release.id {
                return Err(changed_meanwhile(&release.projector));
            }
            self.ensure_replayed(release).await?;
        }
        Ok(())
    }
    /// Applies a change that was made by this replica.
    async fn follow_own(
        &self,
        before: &Serving,
        releases: Vec<Release>,
        loaded: Vec<Arc<LoadedRelease>>,
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

    /// Suspends a failing release. Returns what serves its projector now. The second of two callers finds it done.
    pub(crate) async fn suspend(&self, failing: &LoadedRelease) -> Result<Option<Arc<LoadedRelease>>, ReleaseError> {
        let serving = || self.serving().of(&failing.name).cloned();
        {
            let _one_at_a_time = self.shared.change.lock().await;
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
            self.take_over(Vec::new()).await?;
        }
        let is_loaded = || serving().is_some_and(|active| active.release_id != failing.release_id);
        let alone = self.rollout(&failing.name).await?.release_id == failing.release_id;
        if !alone && !is_loaded() && timeout(REPLACED_WITHIN, self.load_what_serves()).await.is_err() {
            tracing::error!(
                projector = failing.name,
                "the previous release is not loaded yet; events become dead letters"
            );
        }
        Ok(serving())
    }

    /// Pauses a projector, a sink or all notifications if a reason is given, and resumes it otherwise.
    pub async fn pause(&self, what: &Paused, reason: Option<&str>, by: &str) -> Result<(), ReleaseError> {
        let _one_at_a_time = self.shared.change.lock().await;
        self.shared.store.pause(what, reason, by, now_ms()).await?;
        tracing::info!(?what, reason, by, "{}", if reason.is_some() { "paused" } else { "resumed" });
        self.shared.others.rollout_changed();
        self.take_over(Vec::new()).await
    }
}

fn changed_meanwhile(projector: &str) -> ReleaseError {
    ReleaseError::Refused(format!("the rollout of {projector} was changed in the meantime; check it and try again"))
}
