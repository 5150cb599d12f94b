use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

/// The time limit for the checks of one dependency.
const PATIENCE: Duration = Duration::from_secs(20);

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// It works.
    Ok,
    /// It works, but the finding needs attention.
    Warning,
    /// It does not work, or a guarantee does not hold.
    Failed,
}

impl State {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// A check and its finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) check: String,
    pub(super) state: State,
    pub(super) finding: String,
    /// What to do, unless the state is ok.
    pub(super) remedy: Option<String>,
}

impl Check {
    pub(super) fn ok(check: impl Into<String>, finding: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Ok, finding: finding.into(), remedy: None }
    }

    pub(super) fn warning(check: impl Into<String>, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state: State::Warning, remedy: Some(remedy.into()), ..Self::ok(check, finding) }
    }

    pub(super) fn failed(check: impl Into<String>, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state: State::Failed, remedy: Some(remedy.into()), ..Self::ok(check, finding) }
    }
}

/// Runs checks with a time limit. Returns a failed check if they exceed it.
pub(super) async fn within(name: &str, checks: impl Future<Output = Vec<Check>>) -> Vec<Check> {
    timeout(PATIENCE, checks).await.unwrap_or_else(|_| {
        let finding = format!("no response within {} s", PATIENCE.as_secs());
        vec![Check::failed(name, finding, "check whether it is overloaded, or the network to it is lossy")]
    })
}
