use std::time::Duration;

use belfry_store::{Store, StoreError, Trial};
use tokio::sync::watch;
use uuid::Uuid;

use super::verdict::{breach, is_over};
use super::{Candidate, Mode, Tally};
use crate::clock::now_ms;
use crate::releases::{Registry, ReleaseError};
use crate::stopping::stopped;

/// How soon one that does harm is noticed. Without a candidate nothing is asked.
const EVERY: Duration = Duration::from_millis(500);

/// Look after what is tried until the service stops. All replicas do; the first to see what must be done does it.
pub(crate) async fn watch(registry: Registry, store: Store, replica: Uuid, stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stopped(&stopping) => return,
        }
        for candidate in &registry.serving().candidates {
            if let Err(error) = look_after(candidate, &registry, &store, replica).await {
                tracing::warn!(release = candidate.release.label, %error, "cannot look after a candidate; it is tried again");
            }
        }
    }
}

async fn look_after(
    candidate: &Candidate,
    registry: &Registry,
    store: &Store,
    replica: Uuid,
) -> Result<(), ReleaseError> {
    keep(candidate, store, replica).await?;
    let Mode::Canary { plan, step } = &candidate.mode else { return Ok(()) };
    let Some(trial) = store.trial(&candidate.release.name).await? else { return Ok(()) };
    let Some(now) = trial.steps.last().filter(|step| step.rollout.id == candidate.rollout_id) else { return Ok(()) };
    if trial.end.is_some() {
        return Ok(());
    }
    // Of the release beside it all that is known counts: at 100 % it projects nothing any more.
    let active = sum(trial.steps.iter().flat_map(|step| &step.tallies)).active;
    let seen = sum(&now.tallies).candidate;
    if let Some(reason) = breach(&plan.limits, &seen, &active) {
        return registry.take_back(candidate, &reason).await;
    }
    let goes_on = *step + 1 < plan.steps.len() || plan.serves_all_in_the_end();
    if goes_on && is_over(&plan.steps[*step], now_ms() - now.rollout.created_at_ms, &seen) {
        registry.next_step(candidate).await?;
    }
    Ok(())
}

async fn keep(candidate: &Candidate, store: &Store, replica: Uuid) -> Result<(), StoreError> {
    let Some(tally) = candidate.take_grown() else { return Ok(()) };
    let text = serde_json::to_string(&tally).expect("a tally is texts and numbers");
    let kept = store.keep_tally(candidate.rollout_id, replica, &text, now_ms()).await;
    if kept.is_err() {
        candidate.keep_grown();
    }
    kept
}

/// What replicas wrote down, added up. What another version wrote is passed over.
fn sum<'a>(tallies: impl IntoIterator<Item = &'a String>) -> Tally {
    let mut sum = Tally::default();
    for tally in tallies {
        if let Ok(tally) = serde_json::from_str(tally) {
            sum.add(tally);
        }
    }
    sum
}

impl Tally {
    /// All that was seen in a trial, on all replicas.
    pub(crate) fn of(trial: &Trial) -> Self {
        sum(trial.steps.iter().flat_map(|step| &step.tallies))
    }
}
