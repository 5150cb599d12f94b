//! The JSON documents of the API.

use std::collections::HashMap;

use belfry_store::{DeadLetter, LogEntry, Origin, Parked, ParkedRequest, Release, Withheld};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::clock::rfc3339;
use crate::releases::Registry;

/// Wraps a payload from the log that is already JSON; `None` if it is not.
pub(crate) fn raw(payload: Vec<u8>) -> Option<Box<RawValue>> {
    String::from_utf8(payload).ok().and_then(|text| RawValue::from_string(text).ok())
}

/// Formats where a record was read.
pub(crate) fn source(origin: Origin) -> String {
    origin.to_string()
}

/// Returns the projector and the label of a release. If the release is unknown, the projector is empty.
pub(crate) fn named(registry: &Registry, release_id: i64) -> (String, String) {
    match registry.name(release_id) {
        Some(named) => (named.projector, named.label),
        None => (String::new(), format!("#{release_id}")),
    }
}

/// A notification in an event's history.
#[derive(Serialize)]
pub(crate) struct HistoryNotification {
    event_id: Uuid,
    position: i64,
    projector: String,
    release: String,
    recipient: String,
    message: Option<Box<RawValue>>,
}

impl HistoryNotification {
    pub(crate) fn of(entry: LogEntry, registry: &Registry) -> Self {
        let (projector, release) = named(registry, entry.release_id.unwrap_or_default());
        Self {
            event_id: entry.event_id,
            position: entry.position,
            projector,
            release,
            recipient: entry.event_key,
            message: raw(entry.payload),
        }
    }
}

/// A withheld notification in an event's history.
#[derive(Serialize)]
pub(crate) struct HistoryWithheld {
    event_id: Uuid,
    projector: String,
    release: String,
    recipient: String,
    reason: String,
    decided_at: String,
}

impl HistoryWithheld {
    pub(crate) fn of(withheld: Withheld, registry: &Registry) -> Self {
        let (projector, release) = named(registry, withheld.release_id);
        Self {
            event_id: withheld.notification_id,
            projector,
            release,
            recipient: withheld.recipient,
            reason: withheld.reason,
            decided_at: rfc3339(withheld.created_at_ms),
        }
    }
}

/// A dead letter in an event's history.
#[derive(Serialize)]
pub(crate) struct HistoryDeadLetter {
    id: i64,
    /// `None` if no projector saw it.
    projector: Option<String>,
    release: Option<String>,
    /// Where a record was read.
    source: Option<String>,
    cause: String,
    detail: String,
    created_at: String,
}

impl HistoryDeadLetter {
    pub(crate) fn of(letter: DeadLetter, registry: &Registry) -> Self {
        Self {
            id: letter.id,
            projector: letter.projector,
            release: letter.release_id.map(|release_id| named(registry, release_id).1),
            source: letter.origin.map(source),
            cause: letter.cause,
            detail: letter.detail,
            created_at: rfc3339(letter.created_at_ms),
        }
    }
}

/// An entry that a sink refused, or that is behind such an entry of the same key.
#[derive(Serialize)]
pub(crate) struct ParkedView {
    sink: String,
    position: i64,
    topic: String,
    key: String,
    error: String,
    /// What it blocks: `key`, or `topic` if the sink accepts nothing of its topic.
    scope: &'static str,
    parked_at: String,
    /// A request that has not been carried out yet.
    request: Option<&'static str>,
}

impl ParkedView {
    pub(crate) fn of(parked: Parked) -> Self {
        Self {
            sink: parked.sink,
            position: parked.position,
            topic: parked.topic,
            key: parked.event_key,
            error: parked.error,
            scope: parked.scope.as_str(),
            parked_at: rfc3339(parked.parked_at_ms),
            request: parked.request.map(ParkedRequest::as_str),
        }
    }
}

/// A release.
#[derive(Serialize)]
pub(crate) struct ReleaseView {
    release_id: i64,
    projector: String,
    version: String,
    label: String,
    digest: String,
    config: Option<Box<RawValue>>,
    description: Option<Box<RawValue>>,
    note: String,
    created_by: String,
    created_at: String,
    active: bool,
    /// The report of the checks at the upload.
    admission: Option<Box<RawValue>>,
    /// The owner of the trusted key that the component is signed with.
    signed_by: Option<String>,
}

impl ReleaseView {
    /// Creates the view. `signers` maps the digests of components to the owners of the trusted keys that signed them.
    pub(crate) fn of(release: Release, registry: &Registry, signers: &HashMap<[u8; 32], String>) -> Self {
        Self {
            signed_by: signers.get(&release.digest).cloned(),
            active: registry.serving().active.iter().any(|active| active.release_id == release.id),
            release_id: release.id,
            label: release.label(),
            admission: release.admission.and_then(|report| RawValue::from_string(report).ok()),
            projector: release.projector,
            version: release.version,
            digest: belfry_sandbox::Digest(release.digest).to_string(),
            config: RawValue::from_string(release.config).ok(),
            description: RawValue::from_string(release.description).ok(),
            note: release.note,
            created_by: release.created_by,
            created_at: rfc3339(release.created_at_ms),
        }
    }
}

/// A projector with its active release.
#[derive(Serialize)]
pub(crate) struct ProjectorView {
    pub(crate) name: String,
    pub(crate) active: ReleaseView,
    pub(crate) previous_release_id: Option<i64>,
    /// The release that the last change suspended. If it is the active one, no release serves.
    pub(crate) suspended_release_id: Option<i64>,
    /// Why it was suspended.
    pub(crate) reason: Option<String>,
    /// Why the projector is halted; `None` if it is not.
    pub(crate) halted: Option<HaltView>,
    /// The label of the release in trial.
    pub(crate) candidate: Option<String>,
    /// Whether the projector is retired: no release serves it.
    pub(crate) retired: bool,
}

/// Why a projector is halted. Its events become dead letters with this cause.
#[derive(Serialize)]
pub(crate) struct HaltView {
    pub(crate) cause: &'static str,
    pub(crate) detail: String,
}

/// A request to activate releases, starting with the same event.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Activations {
    pub(crate) release_ids: Vec<i64>,
}

/// A request to activate a release.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Activation {
    pub(crate) release_id: i64,
}
