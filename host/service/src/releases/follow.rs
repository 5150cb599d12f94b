//! Applies the rollouts in the database, whichever replica changed them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use belfry_model::Outcome;
use belfry_sandbox::Description;
use belfry_store::{Pause, Paused, Rollout, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::trial::Candidate;
use super::{Halt, Health, LoadedRelease, Registry, ReleaseError, Serving};
use crate::heartbeat::Seen;

/// Time until a failed refresh is retried.
const RETRY: Duration = Duration::from_secs(2);

/// Follows the rollouts that the heartbeat reads until the service stops. `known` is the last state that the registry has
/// applied.
pub(crate) async fn follow(
    registry: Registry,
    mut known: (i64, i64),
    mut seen: watch::Receiver<Seen>,
    stopping: CancellationToken,
) {
    loop {
        let rollout = seen.borrow_and_update().beat.changes();
        if rollout != known {
            match registry.refresh().await {
                Ok(()) => known = rollout,
                Err(error) => {
                    tracing::error!(%error, "cannot read the rollouts; keeping the previous ones and retrying")
                }
            }
        }
        tokio::select! {
            Ok(()) = seen.changed() => {}
            () = tokio::time::sleep(RETRY), if rollout != known => {}
            () = stopping.cancelled() => return,
        }
    }
}

impl Registry {
    /// Applies the rollouts in the database, as far as their releases are loaded. `keep_loaded` loads the others.
    pub async fn refresh(&self) -> Result<(), ReleaseError> {
        let _one_at_a_time = self.shared.change.lock().await;
        self.take_over(Vec::new()).await
    }

    /// Like [`refresh`](Self::refresh), with releases that were loaded for it in advance. Loads nothing, so it takes only
    /// a few queries: where a release is not loaded, the previous one of its projector stays in place, with every current
    /// pause.
    pub(super) async fn take_over(&self, loaded: Vec<Arc<LoadedRelease>>) -> Result<(), ReleaseError> {
        self.read_names().await?;
        let (current, store) = (self.serving(), &self.shared.store);
        let (pauses, rollouts) = (store.pauses().await?, store.rollouts().await?);
        self.shared.muted.store(pauses.iter().any(|pause| pause.what == Paused::Notifications), Ordering::Relaxed);
        let known = Known { current: &current, loaded: &loaded };
        let mut next = Serving::default();
        let mut active = Vec::with_capacity(rollouts.len());
        for rollout in &rollouts {
            next.before.extend(rollout.back_to().filter_map(|release_id| known.release(release_id).cloned()));
            if rollout.retired {
                continue;
            }
            active.extend(self.serve_one(rollout, &known, &pauses).await?);
            next.candidates.extend(try_one(rollout, &known));
        }
        active.sort_by(|one, other| one.name.cmp(&other.name));
        next.active = Arc::new(active);
        self.shared.serving.store(Arc::new(next));
        self.settle_failures(&rollouts);
        Ok(())
    }

    /// Returns what serves a projector on this replica: the release that should; or the one that served until now; or, if
    /// none did and the release cannot be loaded, that release without its rule.
    async fn serve_one(
        &self,
        rollout: &Rollout,
        known: &Known<'_>,
        pauses: &[Pause],
    ) -> Result<Option<Arc<LoadedRelease>>, StoreError> {
        let serving = known.current.of(&rollout.projector);
        let Some(found) = known.release(rollout.release_id) else {
            let instead = serving.filter(|serving| serving.projector.is_some());
            return match instead {
                Some(serving) => Ok(Some(halted(serving, halt_of_replaced(rollout, serving, pauses)))),
                None => self.out(rollout, pauses).await,
            };
        };
        let halt = halt(rollout, pauses);
        if let Some(serving) = serving.filter(|serving| Arc::ptr_eq(serving, found)) {
            return Ok(Some(halted(serving, halt)));
        }
        tracing::info!(release = found.label, "release serves");
        // Its earlier results do not count towards its health.
        Ok(Some(Arc::new(found.with(halt))))
    }

    /// Returns a release that cannot be loaded: its events become dead letters, which can be redriven once it is loaded.
    /// Returns `None` if loading was not tried yet.
    async fn out(&self, rollout: &Rollout, pauses: &[Pause]) -> Result<Option<Arc<LoadedRelease>>, StoreError> {
        let Some(why) = self.why_not_loaded(rollout.release_id) else { return Ok(None) };
        let Some(release) = self.shared.store.release(rollout.release_id).await? else { return Ok(None) };
        let Ok(description) = serde_json::from_str::<Description>(&release.description) else { return Ok(None) };
        let detail = format!("the release cannot be loaded on this replica: {why}");
        let halt = halt(rollout, pauses).unwrap_or(Halt { cause: Outcome::Suspended, detail });
        Ok(Some(Arc::new(LoadedRelease {
            release_id: release.id,
            label: release.label(),
            name: release.projector,
            description,
            projector: None,
            configuration: Arc::default(),
            halt: Some(halt),
            health: Health::default(),
        })))
    }
}

/// The loaded releases: those in use, and those loaded for the next change.
struct Known<'a> {
    current: &'a Serving,
    loaded: &'a [Arc<LoadedRelease>],
}

impl Known<'_> {
    /// Returns the release with this id. Prefers the one in use, so that its health is kept.
    fn release(&self, release_id: i64) -> Option<&Arc<LoadedRelease>> {
        let loaded = || self.loaded.iter().find(|active| active.release_id == release_id);
        self.current.loaded(release_id).or_else(loaded)
    }
}

/// Returns the same release with its current halt, if any.
fn halted(serving: &Arc<LoadedRelease>, halt: Option<Halt>) -> Arc<LoadedRelease> {
    if serving.halt == halt { serving.clone() } else { Arc::new(serving.with(halt)) }
}

fn try_one(rollout: &Rollout, known: &Known<'_>) -> Option<Arc<Candidate>> {
    let wanted = rollout.candidate.as_ref()?;
    let tried = known.current.candidate(&rollout.projector);
    if let Some(tried) = tried.filter(|tried| tried.rollout_id == rollout.id) {
        return Some(tried.clone());
    }
    let release = match tried.filter(|tried| tried.release.release_id == wanted.release_id) {
        // Its health is kept from step to step.
        Some(tried) => tried.release.clone(),
        // Until it is loaded, the serving release serves its subjects.
        None => Arc::new(known.release(wanted.release_id)?.with(None)),
    };
    let label = release.label.clone();
    let candidate = Candidate::of(rollout, release);
    match &candidate {
        Some(candidate) => tracing::info!(release = label, mode = ?candidate.mode, "release on trial"),
        None => tracing::error!(release = label, "cannot read the release's trial: it was written by another version"),
    }
    candidate.map(Arc::new)
}

/// Returns why the release of a projector is not called, if it is not.
fn halt(rollout: &Rollout, pauses: &[Pause]) -> Option<Halt> {
    let paused = paused(rollout, pauses);
    if paused.is_some() || rollout.suspended_release_id != Some(rollout.release_id) {
        return paused;
    }
    let reason = rollout.reason.as_deref().unwrap_or("it failed");
    let detail = format!("the release was suspended, and there is none to roll back to: {reason}");
    Some(Halt { cause: Outcome::Suspended, detail })
}

/// Like [`halt`], for a release that continues only because the one that should serve is not loaded yet.
fn halt_of_replaced(rollout: &Rollout, serving: &LoadedRelease, pauses: &[Pause]) -> Option<Halt> {
    let paused = paused(rollout, pauses);
    if paused.is_some() || rollout.suspended_release_id != Some(serving.release_id) {
        return paused;
    }
    let reason = rollout.reason.as_deref().unwrap_or("it failed");
    let detail = format!("the release was suspended, and the previous one is not loaded yet: {reason}");
    Some(Halt { cause: Outcome::Suspended, detail })
}

fn paused(rollout: &Rollout, pauses: &[Pause]) -> Option<Halt> {
    let projector = Paused::Projector(rollout.projector.clone());
    let pause = pauses.iter().find(|pause| pause.what == projector)?;
    let detail =
        format!("paused by {}: {}; the event is not projected until it is redriven", pause.created_by, pause.reason);
    Some(Halt { cause: Outcome::Paused, detail })
}
