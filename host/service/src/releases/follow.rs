//! Serving what the database says, whichever replica changed it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use belfry_model::Outcome;
use belfry_sandbox::Description;
use belfry_store::{Pause, Paused, Rollout, StoreError};
use tokio::sync::watch;

use super::trial::Candidate;
use super::{Active, Halt, Health, Registry, ReleaseError, Serving};
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
    loop {
        let rollout = seen.borrow_and_update().beat.changes();
        if rollout != known {
            match registry.refresh().await {
                Ok(()) => known = rollout,
                Err(error) => {
                    tracing::error!(%error, "what serves cannot be read; what served before goes on, and it is tried again")
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
    /// Serve what the database says, of what is loaded. What is not is loaded by `keep_loaded`.
    pub async fn refresh(&self) -> Result<(), ReleaseError> {
        let _one_at_a_time = self.shared.change.lock().await;
        self.take_over(Vec::new()).await
    }

    /// The same, with what was loaded for it before. Loads nothing, so it takes a few queries only: a release that is not
    /// loaded leaves the one before of its projector in place, with every pause that holds now.
    pub(super) async fn take_over(&self, loaded: Vec<Arc<Active>>) -> Result<(), ReleaseError> {
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

    /// What serves a projector here: the release that should, or what served until now, or if nothing did and the release
    /// cannot be loaded, that one without its rule.
    async fn serve_one(
        &self,
        rollout: &Rollout,
        known: &Known<'_>,
        pauses: &[Pause],
    ) -> Result<Option<Arc<Active>>, StoreError> {
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
        // What it did before does not count.
        Ok(Some(Arc::new(found.with(halt))))
    }

    /// A release that cannot be loaded: its events become dead letters, which are projected once it can. None while it was
    /// not tried yet.
    async fn out(&self, rollout: &Rollout, pauses: &[Pause]) -> Result<Option<Arc<Active>>, StoreError> {
        let Some(why) = self.why_not_loaded(rollout.release_id) else { return Ok(None) };
        let Some(release) = self.shared.store.release(rollout.release_id).await? else { return Ok(None) };
        let Ok(description) = serde_json::from_str::<Description>(&release.description) else { return Ok(None) };
        let detail = format!("the release cannot be loaded on this replica: {why}");
        let halt = halt(rollout, pauses).unwrap_or(Halt { cause: Outcome::Suspended, detail });
        Ok(Some(Arc::new(Active {
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

/// The releases that are loaded, now or for what comes.
struct Known<'a> {
    current: &'a Serving,
    loaded: &'a [Arc<Active>],
}

impl Known<'_> {
    /// The one that serves is preferred: how it has done counts on.
    fn release(&self, release_id: i64) -> Option<&Arc<Active>> {
        let loaded = || self.loaded.iter().find(|active| active.release_id == release_id);
        self.current.loaded(release_id).or_else(loaded)
    }
}

/// The same release with what holds it up now, if anything does.
fn halted(serving: &Arc<Active>, halt: Option<Halt>) -> Arc<Active> {
    if serving.halt == halt { serving.clone() } else { Arc::new(serving.with(halt)) }
}

fn try_one(rollout: &Rollout, known: &Known<'_>) -> Option<Arc<Candidate>> {
    let wanted = rollout.candidate.as_ref()?;
    let tried = known.current.candidate(&rollout.projector);
    if let Some(tried) = tried.filter(|tried| tried.rollout_id == rollout.id) {
        return Some(tried.clone());
    }
    let release = match tried.filter(|tried| tried.release.release_id == wanted.release_id) {
        // Its failures count on from step to step.
        Some(tried) => tried.release.clone(),
        // Until it is loaded, its subjects are served by the release beside it.
        None => Arc::new(known.release(wanted.release_id)?.with(None)),
    };
    let label = release.label.clone();
    let candidate = Candidate::of(rollout, release);
    match &candidate {
        Some(candidate) => tracing::info!(release = label, mode = ?candidate.mode, "release is tried"),
        None => tracing::error!(release = label, "how a release is to be tried was written by another version"),
    }
    candidate.map(Arc::new)
}

/// Why the release that is its projector's is not asked.
fn halt(rollout: &Rollout, pauses: &[Pause]) -> Option<Halt> {
    let paused = paused(rollout, pauses);
    if paused.is_some() || rollout.suspended_release_id != Some(rollout.release_id) {
        return paused;
    }
    let reason = rollout.reason.as_deref().unwrap_or("it failed");
    let detail = format!("the release was suspended, and there is none to go back to: {reason}");
    Some(Halt { cause: Outcome::Suspended, detail })
}

/// The same of a release that goes on only because the one that should serve is not loaded yet.
fn halt_of_replaced(rollout: &Rollout, serving: &Active, pauses: &[Pause]) -> Option<Halt> {
    let paused = paused(rollout, pauses);
    if paused.is_some() || rollout.suspended_release_id != Some(serving.release_id) {
        return paused;
    }
    let reason = rollout.reason.as_deref().unwrap_or("it failed");
    let detail = format!("the release was suspended, and the one before is not loaded yet: {reason}");
    Some(Halt { cause: Outcome::Suspended, detail })
}

fn paused(rollout: &Rollout, pauses: &[Pause]) -> Option<Halt> {
    let projector = Paused::Projector(rollout.projector.clone());
    let pause = pauses.iter().find(|pause| pause.what == projector)?;
    let detail = format!(
        "paused by {}: {}; it is not projected until somebody gives it another try",
        pause.created_by, pause.reason
    );
    Some(Halt { cause: Outcome::Paused, detail })
}
