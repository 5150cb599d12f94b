use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Client, ClientError};

/// A step of a canary: a share of the subjects, and the conditions for the next step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialStep {
    /// Share of the subjects, in percent.
    pub percent: f64,
    /// Minimum duration, in seconds.
    pub seconds: u64,
    /// Minimum number of events that the candidate projects.
    pub events: u64,
}

/// The limits beyond which a canary is rolled back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialLimits {
    /// Maximum share of events that it fails on, in percent.
    pub failed_percent: f64,
    /// Maximum share of events that it rejects beyond those that the active release rejects, in percentage points.
    pub rejected_percent: f64,
    /// Maximum factor by which its notifications per event may differ from those of the active release.
    pub notifications_factor: f64,
    /// Maximum factor by which the median or the 99th percentile of its projection time may exceed the active release's.
    pub time_factor: f64,
}

/// A trial of a release alongside the active one, running or ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// The rule.
    pub projector: String,
    /// The release on trial.
    pub candidate: String,
    /// The active release.
    pub beside: String,
    /// `shadow` or `canary`.
    pub mode: String,
    /// `running`, `promoted`, `taken_back` or `ended`.
    pub status: String,
    /// For a canary: the share of the subjects that it serves, in percent.
    pub percent: Option<f64>,
    /// For a canary: all steps.
    pub steps: Vec<TrialStep>,
    /// For a canary: the current step, from 1.
    pub step: Option<usize>,
    /// For a canary: its limits.
    pub limits: Option<TrialLimits>,
    /// When it began.
    pub began_at: String,
    /// When its current state began.
    pub since: String,
    /// Who began it.
    pub begun_by: String,
    /// When it ended.
    pub ended_at: Option<String>,
    /// Who ended it.
    pub ended_by: Option<String>,
    /// Why it ended.
    pub reason: Option<String>,
    /// The results of the active release.
    pub active: TrialSide,
    /// The results of the candidate.
    pub tried: TrialSide,
    /// For a shadow: how the two differ.
    pub compared: TrialComparison,
}

/// The results of a release during a trial.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrialSide {
    /// Events projected.
    pub events: u64,
    /// Notifications made.
    pub notifications: u64,
    /// Events rejected.
    pub rejected: u64,
    /// Events on which it failed.
    pub failed: u64,
    /// Events by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// Notifications per event.
    pub notifications_per_event: f64,
    /// The median projection time, in microseconds.
    pub median_us: f64,
    /// The 99th percentile of the projection time, in microseconds.
    pub p99_us: f64,
}

/// How a shadow's notifications differ from those of the active release.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrialComparison {
    /// Events compared.
    pub events: u64,
    /// Events skipped for lack of time.
    pub passed_over: u64,
    /// Notifications that are the same in both.
    pub same: u64,
    /// Notifications of the candidate alone.
    pub added: u64,
    /// Notifications of the active release alone.
    pub removed: u64,
    /// Notifications that differ in content.
    pub changed: u64,
    /// Number of differences of each field.
    pub fields: BTreeMap<String, u64>,
    /// Examples, masked.
    pub samples: Vec<TrialSample>,
}

/// An example of a difference.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrialSample {
    /// `added`, `removed` or `changed`.
    pub difference: String,
    /// The event's id.
    pub event_id: String,
    /// The notification's id.
    pub notification_id: String,
    /// The first letters of its recipient.
    pub recipient: String,
    /// Its type.
    pub notification_type: String,
    /// Its priority.
    pub priority: String,
    /// For a change: the fields with their values before and after.
    pub fields: Vec<Value>,
    /// When it was observed.
    pub seen_at: String,
}

impl Client {
    /// Starts a shadow: the release projects alongside the active one, and its notifications are not issued.
    pub async fn shadow(&self, projector: &str, release_id: i64) -> Result<Trial, ClientError> {
        self.begin_trial(projector, &json!({ "release_id": release_id, "mode": "shadow" })).await
    }

    /// Starts a canary: the release serves a growing share of the subjects.
    pub async fn canary(
        &self,
        projector: &str,
        release_id: i64,
        steps: &[TrialStep],
        limits: &TrialLimits,
    ) -> Result<Trial, ClientError> {
        let plan = json!({ "release_id": release_id, "mode": "canary", "steps": steps, "limits": limits });
        self.begin_trial(projector, &plan).await
    }

    async fn begin_trial(&self, projector: &str, trial: &Value) -> Result<Trial, ClientError> {
        let url = self.url(&["v1", "projectors", projector, "trial"]);
        self.answer(self.http.post(url).json(trial)).await
    }

    /// Returns the last trial of a rule.
    pub async fn trial(&self, projector: &str) -> Result<Trial, ClientError> {
        self.get(self.url(&["v1", "projectors", projector, "trial"])).await
    }

    /// Ends the trial of a rule.
    pub async fn end_trial(&self, projector: &str, reason: &str) -> Result<Trial, ClientError> {
        let url = self.url(&["v1", "projectors", projector, "trial", "end"]);
        self.answer(self.http.post(url).json(&json!({ "reason": reason }))).await
    }
}
