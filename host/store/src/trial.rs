//! A release beside the one that serves: how it is tried, and what was seen of it.

use uuid::Uuid;

use crate::{Rollout, Store, StoreError};

/// A release that is tried beside the one that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The release.
    pub release_id: i64,
    /// Of 10,000 subjects so many are served by it. None: its notifications are compared and never issued.
    pub share: Option<u32>,
    /// The steps and limits, as JSON.
    pub plan: Option<String>,
    /// At which step of the plan it is, from 0.
    pub step: Option<u32>,
}

/// A change of what serves a projector, to be made only if nothing else was changed meanwhile.
#[derive(Clone, Debug)]
pub struct TrialChange<'a> {
    /// The projector's name.
    pub projector: &'a str,
    /// The change that is known to be the last.
    pub after: i64,
    /// What is to serve.
    pub release_id: i64,
    /// What is to be tried beside it.
    pub candidate: Option<&'a Candidate>,
    /// What is taken out by this.
    pub suspended_release_id: Option<i64>,
    /// Why.
    pub reason: Option<&'a str>,
    /// Who says so.
    pub created_by: &'a str,
    /// What the audit log calls it.
    pub action: &'static str,
}

/// The last trial of a projector, under way or over.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Its steps, oldest first; at least one.
    pub steps: Vec<TrialStep>,
    /// The change that ended it.
    pub end: Option<Rollout>,
}

/// A change within a trial.
#[derive(Clone, Debug)]
pub struct TrialStep {
    /// What has held since then.
    pub rollout: Rollout,
    /// What each replica saw since then, as JSON.
    pub tallies: Vec<String>,
}

impl Trial {
    /// From the rows of a projector since its trial began, oldest first.
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
        // A canary after a shadow of the same release is a trial of its own.
        let plan_of = |step: &TrialStep| step.rollout.candidate.as_ref().and_then(|candidate| candidate.plan.clone());
        let plan = plan_of(trial.steps.last()?);
        if let Some(other) = trial.steps.iter().rposition(|step| plan_of(step) != plan) {
            trial.steps.drain(..=other);
        }
        Some(trial)
    }
}

impl Store {
    /// Change what serves, or what is tried, unless something else was changed meanwhile; tells whether it was done.
    pub async fn change_trial(&self, change: &TrialChange<'_>, now_ms: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.change_trial(change, now_ms).await,
            Self::Postgres(postgres) => postgres.change_trial(change, now_ms).await,
        }
    }

    /// Keep what a replica has seen since a change; it replaces what was kept of the same before.
    pub async fn keep_tally(&self, rollout_id: i64, replica: Uuid, tally: &str, now_ms: i64) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.keep_tally(rollout_id, replica, tally, now_ms).await,
            Self::Postgres(postgres) => postgres.keep_tally(rollout_id, replica, tally, now_ms).await,
        }
    }

    /// The last trial of a projector, if there was one.
    pub async fn trial(&self, projector: &str) -> Result<Option<Trial>, StoreError> {
        let (rollouts, tallies) = match self {
            Self::Sqlite(sqlite) => sqlite.trial(projector).await?,
            Self::Postgres(postgres) => postgres.trial(projector).await?,
        };
        Ok(Trial::of(rollouts, tallies))
    }
}
