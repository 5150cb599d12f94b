use belfry_sandbox::{AdmissionReport, Description};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A build of a rule with its configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Release {
    /// Its number.
    pub release_id: i64,
    /// The rule's name.
    pub projector: String,
    /// The rule's version.
    pub version: String,
    /// Its label, such as `teacher-results@1.0.0#1`.
    pub label: String,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// Its configuration.
    pub config: Option<Box<RawValue>>,
    /// The component's description of itself.
    pub description: Option<Description>,
    /// Why it was created.
    pub note: String,
    /// Who created it.
    pub created_by: String,
    /// When it was created.
    pub created_at: String,
    /// Whether it is active.
    pub active: bool,
    /// The report of its admission; `None` if it was uploaded to an older Belfry.
    #[serde(default)]
    pub admission: Option<AdmissionReport>,
    /// The owner of the trusted key that the component is signed with.
    #[serde(default)]
    pub signed_by: Option<String>,
}

/// An entry that a sink refused, or that waits behind a refused entry of the same key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// The sink.
    pub sink: String,
    /// Its position in the log.
    pub position: i64,
    /// Its topic.
    pub topic: String,
    /// Its key; empty if it has none.
    pub key: String,
    /// Why it is parked.
    pub error: String,
    /// What it blocks: `key` or `topic`.
    pub scope: String,
    /// When it was parked.
    pub parked_at: String,
    /// The pending request, if any: `unpark` or `discard`.
    pub request: Option<String>,
}

/// A rule with its active release.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rollout {
    /// The rule's name.
    pub name: String,
    /// The active release.
    pub active: Release,
    /// The release that was active before.
    pub previous_release_id: Option<i64>,
    /// The release that was suspended by the last change.
    #[serde(default)]
    pub suspended_release_id: Option<i64>,
    /// Why it was suspended.
    #[serde(default)]
    pub reason: Option<String>,
    /// Why the rule projects no events now, if so.
    #[serde(default)]
    pub halted: Option<Halt>,
    /// The label of the release on trial alongside it.
    #[serde(default)]
    pub candidate: Option<String>,
    /// Whether the rule is retired.
    #[serde(default)]
    pub retired: bool,
}

/// Why a rule projects no events: they become dead letters of this cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// `paused` or `suspended`.
    pub cause: String,
    /// The cause in words.
    pub detail: String,
}

/// A pause of a rule, a sink or all notifications.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// `projector`, `sink` or `notifications`.
    pub kind: String,
    /// The name of the rule or sink.
    pub name: String,
    /// The reason.
    pub reason: String,
    /// Who paused it.
    pub paused_by: String,
    /// When it was paused.
    pub paused_at: String,
}
