use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

/// How long one dependency may take to be looked at.
const PATIENCE: Duration = Duration::from_secs(20);

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// It works, but something is to be known.
    Warning,
    /// It does not work, or a promise does not hold.
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

/// What was looked at, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) check: String,
    pub(super) state: State,
    pub(super) finding: String,
    /// What to do, unless all is well.
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

/// Checks that take too long have failed.
pub(super) async fn within(name: &str, checks: impl Future<Output = Vec<Check>>) -> Vec<Check> {
    timeout(PATIENCE, checks).await.unwrap_or_else(|_| {
        let finding = format!("no answer for {} s", PATIENCE.as_secs());
        vec![Check::failed(name, finding, "see whether it is overloaded, or the network to it lossy")]
    })
}
