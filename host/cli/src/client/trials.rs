use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Client, ClientError};

/// A share of the subjects, and what has to pass before the next one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialStep {
    /// Of the subjects.
    pub percent: f64,
    /// At least so long.
    pub seconds: u64,
    /// And so many events of the candidate's.
    pub events: u64,
}

/// Beyond these a canary is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialLimits {
    /// Events that it fails on, in percent.
    pub failed_percent: f64,
    /// Events that it rejects beyond what the release beside it rejects, in percent.
    pub rejected_percent: f64,
    /// Notifications per event, as a multiple of those of the release beside it.
    pub notifications_factor: f64,
    /// Median and 99th percentile of projecting, as a multiple.
    pub time_factor: f64,
}

/// A release that is or was tried beside the one that serves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// The rule.
    pub projector: String,
    /// The release that is tried.
    pub candidate: String,
    /// The release that serves.
    pub beside: String,
    /// `shadow` or `canary`.
    pub mode: String,
    /// `running`, `promoted`, `taken_back` or `ended`.
    pub status: String,
    /// Of a canary: the share of the subjects that it serves.
    pub percent: Option<f64>,
    /// Of a canary: all steps.
    pub steps: Vec<TrialStep>,
    /// At which it is, from 1.
    pub step: Option<usize>,
    /// Of a canary.
    pub limits: Option<TrialLimits>,
    /// When it began.
    pub began_at: String,
    /// Since when it has been as it is.
    pub since: String,
    /// Who began it.
    pub begun_by: String,
    /// When it ended.
    pub ended_at: Option<String>,
    /// Who ended it.
    pub ended_by: Option<String>,
    /// Why it ended.
    pub reason: Option<String>,
    /// What the release did that serves.
    pub active: TrialSide,
    /// What the candidate did.
    pub tried: TrialSide,
    /// Of a shadow: how both differ.
    pub compared: TrialComparison,
}

/// What a release did during a trial.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrialSide {
    /// Events projected.
    pub events: u64,
    /// Notifications made.
    pub notifications: u64,
    /// Events rejected.
    pub rejected: u64,
    /// Events failed on.
    pub failed: u64,
    /// Events by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// Notifications for each event.
    pub notifications_per_event: f64,
    /// The median of projecting, in microseconds.
    pub median_us: f64,
    /// The 99th percentile of projecting, in microseconds.
    pub p99_us: f64,
}

/// How a shadow's notifications differ.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrialComparison {
    /// Events compared.
    pub events: u64,
    /// Events for which there was no time.
    pub passed_over: u64,
    /// Notifications that both tell alike.
    pub same: u64,
    /// That only the candidate tells.
    pub added: u64,
    /// That only the other tells.
    pub removed: u64,
    /// That both tell differently.
    pub changed: u64,
    /// How often each field differs.
    pub fields: BTreeMap<String, u64>,
    /// Examples, masked.
    pub samples: Vec<TrialSample>,
}

/// An example of a difference.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrialSample {
    /// `added`, `removed` or `changed`.
    pub difference: String,
    /// The event.
    pub event_id: String,
    /// The notification.
    pub notification_id: String,
    /// The first letters of whom it is for.
    pub recipient: String,
    /// Its type.
    pub notification_type: String,
    /// Its priority.
    pub priority: String,
    /// Of a change: field, before and after.
    pub fields: Vec<Value>,
    /// When it was seen.
    pub seen_at: String,
}

impl Client {
    /// Let a release project beside the one that serves; nothing of its own is issued.
    pub async fn shadow(&self, projector: &str, release_id: i64) -> Result<Trial, ClientError> {
        self.begin_trial(projector, &json!({ "release_id": release_id, "mode": "shadow" })).await
    }

    /// Let a release serve a growing share of the subjects.
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

    /// The last trial of a rule.
    pub async fn trial(&self, projector: &str) -> Result<Trial, ClientError> {
        self.get(self.url(&["v1", "projectors", projector, "trial"])).await
    }

    /// End it.
    pub async fn end_trial(&self, projector: &str, reason: &str) -> Result<Trial, ClientError> {
        let url = self.url(&["v1", "projectors", projector, "trial", "end"]);
        self.answer(self.http.post(url).json(&json!({ "reason": reason }))).await
    }
}
