//! Serving what the database says, whoever changed it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use belfry_model::Outcome;
use belfry_store::{Pause, Paused, Rollout};
use tokio::sync::watch;

use super::trial::Candidate;
use super::{Active, Halt, Registry, ReleaseError, Serving};
use crate::heartbeat::Seen;

/// How soon it is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Follow the rollouts that the heartbeat sees until the service stops. `known` is the last that the registry knows.
pub(crate) async fn follow(
    registry: Registry,
    mut known: (i64, i64),
    mut seen: watch::Receiver<Seen>,
    mut stopping: watch::Receiver<bool>,
) {
    let loading = registry.clone();
    tokio::spawn(async move { loading.load_previous().await });
    loop {
        let rollout = seen.borrow_and_update().beat.changes();
        if rollout != known {
            match registry.refresh().await {
                Ok(()) => known = rollout,
                Err(error) => {
                    tracing::error!(%error, "a release cannot be loaded; the one before serves on, and it is tried again")
                }
            }
        }
        tokio::select! {
            Ok(()) = seen.changed() => {}
            () = tokio::time::sleep(RETRY), if rollout != known => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

impl Registry {
    /// Serve what the database says. A release that cannot be loaded leaves the one before of its projector in place; the
    /// others change all the same.
    pub async fn refresh(&self) -> Result<(), ReleaseError> {
        let _one_at_a_time = self.shared.change.lock().await;
        self.take_over(Vec::new()).await
    }

    /// The same, with what was loaded for it before.
    pub(super) async fn take_over(&self, loaded: Vec<Arc<Active>>) -> Result<(), ReleaseError> {
        self.read_names().await?;
        let current = self.serving();
        let pauses = self.shared.store.pauses().await?;
        self.shared.muted.store(pauses.iter().any(|pause| pause.what == Paused::Notifications), Ordering::Relaxed);
        let (mut active, mut candidates) = (Vec::with_capacity(current.active.len()), Vec::new());
        let mut failed = Ok(());
        for rollout in self.shared.store.rollouts().await? {
            match self.serve_one(&rollout, &current, &loaded, &pauses).await {
                Ok(serving) => active.push(serving),
                Err(error) => {
                    failed = Err(error);
                    active.extend(current.of(&rollout.projector).cloned());
                }
            }
            match self.try_one(&rollout, &current, &loaded).await {
                Ok(candidate) => candidates.extend(candidate),
                // Its subjects are served by the release beside it.
                Err(error) => failed = Err(error),
            }
        }
        active.sort_by(|one, other| one.name.cmp(&other.name));
        let before = before(&current, &active);
        self.shared.serving.store(Arc::new(Serving { active: Arc::new(active), candidates, before }));
        failed
    }

    /// Load what a rollback would go back to: it must not wait for that. What serves is loaded already.
    async fn load_previous(&self) {
        let rollouts = match self.shared.store.rollouts().await {
            Ok(rollouts) => rollouts,
            Err(error) => return tracing::warn!(%error, "what rollbacks would go back to is loaded only then"),
        };
        for rollout in rollouts {
            let Some(previous) = rollout.previous_release_id else { continue };
            let loaded = match self.load_by_id(previous).await {
                Ok(loaded) => loaded,
                Err(error) => {
                    let projector = rollout.projector;
                    tracing::warn!(projector, release_id = previous, %error, "a rollback could not go back to this");
                    continue;
                }
            };
            let _one_at_a_time = self.shared.change.lock().await;
            let current = self.serving();
            // Whatever served since then is the one before.
            if current.before.iter().all(|before| before.name != rollout.projector) {
                tracing::info!(release = loaded.label, "ready to serve again");
                let before = current.before.iter().cloned().chain([loaded]).collect();
                let (active, candidates) = (current.active.clone(), current.candidates.clone());
                self.shared.serving.store(Arc::new(Serving { active, candidates, before }));
            }
        }
    }

    async fn serve_one(
        &self,
        rollout: &Rollout,
        current: &Serving,
        loaded: &[Arc<Active>],
        pauses: &[Pause],
    ) -> Result<Arc<Active>, ReleaseError> {
        let halt = halt(rollout, pauses);
        if let Some(serving) = current.of(&rollout.projector).filter(|one| one.release_id == rollout.release_id) {
            return Ok(if serving.halt == halt { serving.clone() } else { Arc::new(serving.with(halt)) });
        }
        let found = found(self, rollout.release_id, loaded).await?;
        tracing::info!(release = found.label, "release serves");
        // What it did before does not count.
        Ok(Arc::new(found.with(halt)))
    }

    async fn try_one(
        &self,
        rollout: &Rollout,
        current: &Serving,
        loaded: &[Arc<Active>],
    ) -> Result<Option<Arc<Candidate>>, ReleaseError> {
        let Some(wanted) = &rollout.candidate else { return Ok(None) };
        let tried = current.candidate(&rollout.projector);
        if let Some(tried) = tried.filter(|tried| tried.rollout_id == rollout.id) {
            return Ok(Some(tried.clone()));
        }
        let release = match tried.filter(|tried| tried.release.release_id == wanted.release_id) {
            // Its failures count on from step to step.
            Some(tried) => tried.release.clone(),
            None => Arc::new(found(self, wanted.release_id, loaded).await?.with(None)),
        };
        let label = release.label.clone();
        let candidate = Candidate::of(rollout, release);
        match &candidate {
            Some(candidate) => tracing::info!(release = label, mode = ?candidate.mode, "release is tried"),
            None => tracing::error!(release = label, "how a release is to be tried was written by another version"),
        }
        Ok(candidate.map(Arc::new))
    }
}

/// A release that was loaded for this, or any other.
async fn found(registry: &Registry, release_id: i64, loaded: &[Arc<Active>]) -> Result<Arc<Active>, ReleaseError> {
    match loaded.iter().find(|active| active.release_id == release_id) {
        Some(there) => Ok(there.clone()),
        None => registry.load_by_id(release_id).await,
    }
}

/// Of each projector the release that served until now, or if that has not changed, the one before.
fn before(current: &Serving, active: &[Arc<Active>]) -> Vec<Arc<Active>> {
    let of = |serving: &Arc<Active>| {
        let last = current.of(&serving.name)?;
        if last.release_id != serving.release_id {
            return Some(last.clone());
        }
        current.before.iter().find(|before| before.name == serving.name).cloned()
    };
    active.iter().filter_map(of).collect()
}

/// Why the release that is its projector's is not asked.
fn halt(rollout: &Rollout, pauses: &[Pause]) -> Option<Halt> {
    let projector = Paused::Projector(rollout.projector.clone());
    if let Some(pause) = pauses.iter().find(|pause| pause.what == projector) {
        let detail = format!(
            "paused by {}: {}; it is not projected until somebody gives it another try",
            pause.created_by, pause.reason
        );
        return Some(Halt { cause: Outcome::Paused, detail });
    }
    if rollout.suspended_release_id != Some(rollout.release_id) {
        return None;
    }
    let reason = rollout.reason.as_deref().unwrap_or("it failed");
    let detail = format!("the release was suspended, and there is none to go back to: {reason}");
    Some(Halt { cause: Outcome::Suspended, detail })
}
