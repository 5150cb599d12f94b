//! Trials of a candidate release alongside the one that serves: how it is tried, and what was observed.

use crate::{Candidate, Rollout};

/// A rollout change, made only if no other change was made in the meantime.
#[derive(Clone, Debug)]
pub struct TrialChange<'a> {
    /// The projector's name.
    pub projector: &'a str,
    /// The number of the change that is expected to be the last.
    pub after: i64,
    /// The release to serve.
    pub release_id: i64,
    /// The candidate to try alongside it.
    pub candidate: Option<&'a Candidate>,
    /// The release that this change suspends.
    pub suspended_release_id: Option<i64>,
    /// Why it is made.
    pub reason: Option<&'a str>,
    /// Who makes it.
    pub created_by: &'a str,
    /// Its action in the audit log.
    pub action: &'static str,
}

/// The last trial of a projector, in progress or ended.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Its steps, oldest first; at least one.
    pub steps: Vec<TrialStep>,
    /// The change that ended it; `None` while it is in progress.
    pub end: Option<Rollout>,
}

/// A change within a trial.
#[derive(Clone, Debug)]
pub struct TrialStep {
    /// The rollout that has been in effect since then.
    pub rollout: Rollout,
    /// What each replica has observed since then, as JSON.
    pub tallies: Vec<String>,
}

impl Trial {
    /// Builds a trial from the rollouts of a projector since the trial began, oldest first.
    pub(crate) fn of(rollouts: Vec<Rollout>, mut tallies: Vec<(i64, String)>) -> Option<Self> {
        let mut trial = Self { steps: Vec::new(), end: None };
        for rollout in rollouts {
            if rollout.candidate.is_none() {
                trial.end = Some(rollout);
                break;
            }
            let (own, others) = tallies.into_iter().partition(|(rollout_id, _)| *rollout_id == rollout.id);
            tallies = others;
            let own: Vec<(i64, String)> = own;
            trial.steps.push(TrialStep { rollout, tallies: own.into_iter().map(|(_, tally)| tally).collect() });
        }
        // A canary after a shadow of the same release is a separate trial.
        let plan_of = |step: &TrialStep| step.rollout.candidate.as_ref().and_then(|candidate| candidate.plan.clone());
        let plan = plan_of(trial.steps.last()?);
        if let Some(other) = trial.steps.iter().rposition(|step| plan_of(step) != plan) {
            trial.steps.drain(..=other);
        }
        Some(trial)
    }
}
