use std::time::Duration;

use belfry_store::{Store, StoreError, Trial, now_ms};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::verdict::{breach, is_over};
use super::{Candidate, Mode, Tally};
use crate::releases::{Registry, ReleaseError};

/// How soon a harmful candidate is noticed. Without a candidate nothing is queried.
const EVERY: Duration = Duration::from_millis(500);

/// Supervises the candidates until the service stops. All replicas do; the first to detect that a change is due makes it.
pub(crate) async fn watch(registry: Registry, store: Store, replica: Uuid, stopping: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stopping.cancelled() => return,
        }
        for candidate in &registry.serving().candidates {
            if let Err(error) = look_after(candidate, &registry, &store, replica).await {
                tracing::warn!(release = candidate.release.label, %error, "cannot supervise a candidate; retrying");
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
    // For the serving release the tallies of all steps count: at 100 % it no longer projects anything.
    let active = sum(trial.steps.iter().flat_map(|step| &step.tallies)).active;
    let seen = sum(&now.tallies).candidate;
    if let Some(reason) = breach(&plan.limits, &seen, &active) {
        return registry.roll_back_canary(candidate, &reason).await;
    }
    let goes_on = *step + 1 < plan.steps.len() || plan.serves_all_in_the_end();
    if goes_on && is_over(&plan.steps[*step], now_ms() - now.rollout.created_at_ms, &seen) {
        registry.next_step(candidate).await?;
    }
    Ok(())
}

async fn keep(candidate: &Candidate, store: &Store, replica: Uuid) -> Result<(), StoreError> {
    let Some(tally) = candidate.take_grown() else { return Ok(()) };
    let text = serde_json::to_string(&tally).expect("a tally is always valid JSON");
    let kept = store.keep_tally(candidate.rollout_id, replica, &text, now_ms()).await;
    if kept.is_err() {
        candidate.keep_grown();
    }
    kept
}

/// Adds up the tallies of replicas. Those that another version wrote are skipped.
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
    /// Returns all observations of a trial, on all replicas.
    pub(crate) fn of(trial: &Trial) -> Self {
        sum(trial.steps.iter().flat_map(|step| &step.tallies))
    }
}
