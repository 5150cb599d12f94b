//! Loads the releases that should serve and are not loaded, in the background: no change to a rollout waits for it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use belfry_store::Rollout;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Registry;
use super::loading::Lane;
use crate::releases::{LoadedRelease, ReleaseError};

/// Time until loading is retried: at first, and after repeated failures.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LATER_RETRY: Duration = Duration::from_secs(60);

/// Keeps the serving releases and the targets of rollbacks loaded until the service stops. The former do not wait for the
/// latter.
pub(crate) async fn keep_loaded(registry: Registry, stopping: CancellationToken) {
    let Wanted { serving, before } = &registry.shared.wanted;
    tokio::join!(
        keep(serving, || registry.load_what_serves(), stopping.clone()),
        keep(before, || registry.load_what_served(), stopping),
    );
}

/// Notified when releases should be loaded and are not.
#[derive(Default)]
pub(in crate::releases) struct Wanted {
    /// For releases that should serve, or be tried.
    serving: Notify,
    /// For the targets of rollbacks.
    before: Notify,
}

/// Loads whenever a release is wanted, and retries with growing pauses until all of them are loaded.
async fn keep<L: Future<Output = Result<bool, ReleaseError>>>(
    wanted: &Notify,
    load: impl Fn() -> L,
    stopping: CancellationToken,
) {
    let mut retry = FIRST_RETRY;
    loop {
        let all_there = tokio::select! {
            loaded = load() => loaded.unwrap_or_else(|error| {
                tracing::error!(%error, "cannot read which releases should be loaded; retrying");
                false
            }),
            () = stopping.cancelled() => return,
        };
        tokio::select! {
            () = wanted.notified() => retry = FIRST_RETRY,
            () = tokio::time::sleep(retry), if !all_there => retry = (retry * 2).min(LATER_RETRY),
            () = stopping.cancelled() => return,
        }
    }
}

impl Registry {
    /// Loads each release that should serve or be tried, and puts it into service. Returns whether all of them are loaded.
    pub(in crate::releases) async fn load_what_serves(&self) -> Result<bool, ReleaseError> {
        let mut all_there = true;
        for rollout in self.shared.store.rollouts().await? {
            for release_id in rollout.in_use() {
                match self.load_missing(release_id, Lane::Serving).await {
                    Ok(None) => continue,
                    Ok(Some(loaded)) => {
                        let _one_at_a_time = self.shared.change.lock().await;
                        self.take_over(vec![loaded]).await?;
                        if self.serving().loaded(release_id).is_none() {
                            // Loading it again would not help. The entry is removed once the release is no longer wanted.
                            let why = "its trial was written by another version";
                            self.not_loaded().insert(release_id, why.to_owned());
                        }
                    }
                    // The database failed, not the release.
                    Err(error @ ReleaseError::Store(_)) => return Err(error),
                    Err(error) => {
                        all_there = false;
                        self.note_not_loaded(release_id, &rollout, &error).await?;
                    }
                }
            }
        }
        Ok(all_there)
    }

    /// Like [`load_what_serves`](Self::load_what_serves), for the targets of rollbacks: a rollback must not wait for
    /// loading.
    async fn load_what_served(&self) -> Result<bool, ReleaseError> {
        let mut all_there = true;
        for rollout in self.shared.store.rollouts().await? {
            for release_id in rollout.back_to() {
                match self.load_missing(release_id, Lane::Trying).await {
                    Ok(None) => continue,
                    Ok(Some(loaded)) => {
                        tracing::info!(release = loaded.label, "ready to serve again");
                        let _one_at_a_time = self.shared.change.lock().await;
                        self.take_over(vec![loaded]).await?;
                    }
                    Err(error @ ReleaseError::Store(_)) => return Err(error),
                    Err(error) => {
                        all_there = false;
                        let projector = &rollout.projector;
                        tracing::warn!(projector, release_id, %error, "cannot load the target of a rollback");
                        self.not_loaded().insert(release_id, error.to_string());
                    }
                }
            }
        }
        Ok(all_there)
    }

    /// Loads a release; returns `None` if it is loaded already.
    async fn load_missing(&self, release_id: i64, lane: Lane) -> Result<Option<Arc<LoadedRelease>>, ReleaseError> {
        if self.serving().loaded(release_id).is_some() {
            return Ok(None);
        }
        let release = self.release(release_id).await?;
        self.load_once(&release, lane).await.map(Some)
    }

    /// Logs the failure, and turns the release's events into dead letters unless another release serves its projector on
    /// this replica.
    async fn note_not_loaded(
        &self,
        release_id: i64,
        rollout: &Rollout,
        error: &ReleaseError,
    ) -> Result<(), ReleaseError> {
        let label = self.name(release_id).map_or_else(|| format!("#{release_id}"), |named| named.label);
        let instead = self.serving().of(&rollout.projector).filter(|active| active.projector.is_some()).cloned();
        let instead = instead.map_or_else(|| "none".to_owned(), |active| active.label.clone());
        tracing::error!(release = label, %error, serves_instead = instead, "a release that should serve cannot be loaded");
        self.not_loaded().insert(release_id, error.to_string());
        let _one_at_a_time = self.shared.change.lock().await;
        self.take_over(Vec::new()).await
    }

    /// Returns why a release that should serve could not be loaded, if it could not.
    pub(crate) fn why_not_loaded(&self, release_id: i64) -> Option<String> {
        self.not_loaded().get(&release_id).cloned()
    }

    /// Keeps only the failures of releases that are wanted and not loaded, counts those of releases in use, and triggers
    /// the loading of releases that were not tried yet.
    pub(in crate::releases) fn settle_failures(&self, rollouts: &[Rollout]) {
        let serving = self.serving();
        let is_missing = |release_id: &i64| serving.loaded(*release_id).is_none();
        let in_use: BTreeSet<i64> = rollouts.iter().flat_map(Rollout::in_use).filter(is_missing).collect();
        let before: BTreeSet<i64> = rollouts.iter().flat_map(Rollout::back_to).filter(is_missing).collect();
        let mut failures = self.not_loaded();
        failures.retain(|release_id, _| in_use.contains(release_id) || before.contains(release_id));
        let failed = in_use.iter().filter(|release_id| failures.contains_key(*release_id)).count();
        metrics::gauge!("belfry_releases_not_loaded").set(failed as f64);
        let Wanted { serving: for_serving, before: for_before } = &self.shared.wanted;
        for (missing, wanted) in [(in_use, for_serving), (before, for_before)] {
            if missing.iter().any(|release_id| !failures.contains_key(release_id)) {
                wanted.notify_one();
            }
        }
    }

    fn not_loaded(&self) -> MutexGuard<'_, HashMap<i64, String>> {
        self.shared.not_loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
