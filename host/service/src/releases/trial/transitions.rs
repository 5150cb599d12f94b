//! Starts, advances and ends the trials of releases.

use std::sync::Arc;

use belfry_store::{Candidate as CandidateRow, Rollout, TrialChange, now_ms};

use super::{Candidate, Mode, Plan};
use crate::releases::registry::Lane;
use crate::releases::{BELFRY, LoadedRelease, Registry, ReleaseError};

impl Registry {
    /// Starts the trial of a release next to the one that serves its projector, and replaces any other trial. Without a
    /// plan its notifications are compared and never issued; with one it serves a share of the subjects.
    pub(crate) async fn begin_trial(
        &self,
        release_id: i64,
        projector: &str,
        plan: Option<&Plan>,
        by: &str,
    ) -> Result<(), ReleaseError> {
        let release = self.release(release_id).await?;
        if release.projector != projector {
            return Err(ReleaseError::of_another(release_id, &release.projector, projector));
        }
        let rollout = self.rollout(projector).await?;
        if rollout.retired {
            let detail =
                format!("{projector} is retired; activate it again first: belfry release rollback {projector}");
            return Err(ReleaseError::Refused(detail));
        }
        if rollout.release_id == release_id {
            let detail = format!("{} already serves; try another release", release.label());
            return Err(ReleaseError::Refused(detail));
        }
        if rollout.suspended_release_id == Some(rollout.release_id) {
            let detail =
                format!("the release that serves {projector} is suspended; activate a working release instead");
            return Err(ReleaseError::Refused(detail));
        }
        self.ensure_vouched_for(&release).await?;
        if plan.is_some() {
            self.ensure_replayed(&release).await?;
        }
        let loaded = self.load_once(&release, Lane::Serving).await?;
        let candidate = plan
            .map_or(CandidateRow { release_id, share: None, plan: None, step: None }, |plan| row(release_id, plan, 0));
        let action = if plan.is_some() { "trial.canary" } else { "trial.shadow" };
        let change = TrialChange { candidate: Some(&candidate), created_by: by, action, ..unchanged(&rollout) };
        let _one_at_a_time = self.shared.change.lock().await;
        // If the rollout was changed in the meantime, this changes nothing and is refused.
        self.change_trial(&change, vec![loaded]).await?;
        tracing::info!(release = release.label(), by, "trial started");
        Ok(())
    }

    /// Ends a trial; the serving release serves all subjects again.
    pub(crate) async fn end_trial(&self, projector: &str, reason: &str, by: &str) -> Result<(), ReleaseError> {
        let _one_at_a_time = self.shared.change.lock().await;
        let rollout = self.rollout(projector).await?;
        if rollout.candidate.is_none() {
            return Err(ReleaseError::Refused(format!("no release of {projector} is on trial")));
        }
        self.end(&rollout, reason, by).await
    }

    pub(in crate::releases) async fn end(&self, rollout: &Rollout, reason: &str, by: &str) -> Result<(), ReleaseError> {
        let change = TrialChange { reason: Some(reason), created_by: by, ..unchanged(rollout) };
        self.change_trial(&change, Vec::new()).await?;
        tracing::info!(projector = rollout.projector, reason, by, "trial ended");
        Ok(())
    }

    /// Rolls back a canary that exceeds its limits. The second of two callers finds it done.
    pub(crate) async fn roll_back_canary(&self, candidate: &Candidate, reason: &str) -> Result<(), ReleaseError> {
        let _one_at_a_time = self.shared.change.lock().await;
        let Some(rollout) = self.still(candidate).await? else { return Ok(()) };
        let release = &candidate.release;
        let suspended_release_id = Some(release.release_id);
        let action = "trial.take-back";
        let change = TrialChange { suspended_release_id, reason: Some(reason), action, ..unchanged(&rollout) };
        if self.change_trial(&change, Vec::new()).await? {
            metrics::counter!("belfry_rollbacks_total", "projector" => release.name.clone()).increment(1);
            tracing::error!(release = release.label, reason, "canary rolled back");
        }
        Ok(())
    }

    /// Advances a canary to a larger share, or to serve all subjects. The second of two callers finds it done.
    pub(crate) async fn next_step(&self, candidate: &Candidate) -> Result<(), ReleaseError> {
        let _one_at_a_time = self.shared.change.lock().await;
        let Mode::Canary { plan, step } = &candidate.mode else { return Ok(()) };
        let Some(rollout) = self.still(candidate).await? else { return Ok(()) };
        let release = &candidate.release;
        if let Some(next) = plan.steps.get(step + 1) {
            let larger = row(release.release_id, plan, step + 1);
            let change = TrialChange { candidate: Some(&larger), action: "trial.grow", ..unchanged(&rollout) };
            if self.change_trial(&change, Vec::new()).await? {
                tracing::info!(release = release.label, percent = next.percent, "canary advanced");
            }
        } else if plan.serves_all_in_the_end() {
            let reason = Some("its canary is complete");
            let action = "trial.complete";
            let change = TrialChange { release_id: release.release_id, reason, action, ..unchanged(&rollout) };
            if self.change_trial(&change, Vec::new()).await? {
                tracing::info!(release = release.label, "canary complete; the release serves all subjects");
            }
        }
        Ok(())
    }

    /// Returns the rollout of a projector.
    pub(in crate::releases) async fn rollout(&self, projector: &str) -> Result<Rollout, ReleaseError> {
        let rollouts = self.shared.store.rollouts().await?;
        rollouts.into_iter().find(|rollout| rollout.projector == projector).ok_or_else(|| {
            ReleaseError::Unknown(format!("no release of {projector} serves; see `belfry release list`"))
        })
    }

    /// Returns the rollout, unless it was changed since the candidate entered its current step.
    async fn still(&self, candidate: &Candidate) -> Result<Option<Rollout>, ReleaseError> {
        let rollout = self.rollout(&candidate.release.name).await?;
        Ok((rollout.id == candidate.rollout_id).then_some(rollout))
    }

    async fn change_trial(
        &self,
        change: &TrialChange<'_>,
        loaded: Vec<Arc<LoadedRelease>>,
    ) -> Result<bool, ReleaseError> {
        let done = self.shared.store.change_trial(change, now_ms()).await?;
        if done {
            self.shared.others.rollout_changed();
        }
        self.take_over(loaded).await?;
        if !done && change.created_by != BELFRY {
            let detail =
                format!("the rollout of {} was changed in the meantime; check it and try again", change.projector);
            return Err(ReleaseError::Refused(detail));
        }
        Ok(done)
    }
}

/// Returns a change that keeps the serving release and ends its trial.
fn unchanged(rollout: &Rollout) -> TrialChange<'_> {
    TrialChange {
        projector: &rollout.projector,
        after: rollout.id,
        release_id: rollout.release_id,
        candidate: None,
        suspended_release_id: None,
        reason: None,
        created_by: BELFRY,
        action: "trial.end",
    }
}

fn row(release_id: i64, plan: &Plan, step: usize) -> CandidateRow {
    CandidateRow {
        release_id,
        share: Some(plan.steps[step].parts()),
        plan: Some(serde_json::to_string(plan).expect("a plan is always valid JSON")),
        step: Some(step as u32),
    }
}
