//! The audit log: changes that people make, and changes that Belfry makes automatically. Each change is recorded in the
//! transaction that makes it, so that neither exists without the other.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    DeadLetterFilter, NewParkedRequest, NewRelease, NewToken, ParkedFilter, Paused, Release, Rollout, Sink,
    SourcePartition, TrialChange,
};

/// The author of the changes that Belfry makes automatically.
const BELFRY: &str = "belfry";
/// The action of a replay. A replay changes nothing, but a later change may require one as evidence.
pub(crate) const REPLAY: &str = "release.replay";

/// A change to record.
#[derive(Clone, Debug)]
pub struct NewChange {
    /// The name of a token, `local`, or `belfry`.
    pub by: String,
    /// The action, such as `release.activate`: a kind of object, and what happened to it.
    pub action: &'static str,
    /// The object that was changed.
    pub subject: String,
    /// Additional details: a JSON object.
    pub detail: Value,
}

/// A recorded change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its number. Later changes have higher numbers.
    pub id: i64,
    /// When it was made, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Who made it.
    pub by: String,
    /// The action, as in [`NewChange`].
    pub action: String,
    /// The object that was changed.
    pub subject: String,
    /// Additional details: a JSON object.
    pub detail: String,
}

/// The result of a replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// The release that the candidate was compared with; `None` if it was compared with the recorded notifications.
    pub baseline_id: Option<i64>,
    /// Start of the time range, in RFC 3339 format.
    pub from: String,
    /// End of the time range, in RFC 3339 format.
    pub to: String,
    /// Number of events that were projected.
    pub events: u64,
    /// Number of these events that the candidate failed on or rejected.
    pub not_projected: u64,
    /// Whether only events about one subject were projected.
    pub one_subject: bool,
    /// Number of notifications that only the candidate produces.
    pub added: u64,
    /// Number of notifications that the candidate no longer produces.
    pub removed: u64,
    /// Number of notifications whose content differs.
    pub changed: u64,
}

/// Selects the changes that match all fields that are set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeFilter {
    /// Who made it.
    pub by: Option<String>,
    /// The action, or a kind of object such as `release` for all actions on it.
    pub action: Option<String>,
    /// The object that was changed.
    pub subject: Option<String>,
    /// The earliest time, in milliseconds since the Unix epoch.
    pub since_ms: Option<i64>,
}

impl NewChange {
    fn new(by: &str, action: &'static str, subject: impl Into<String>, detail: Value) -> Self {
        Self { by: by.to_owned(), action, subject: subject.into(), detail }
    }

    pub(crate) fn pushed(release: &Release) -> Self {
        Self::new(&release.created_by, "release.push", release.label(), json!({ "note": release.note }))
    }

    /// Describes a signature added to an existing release.
    pub(crate) fn signed(release: &Release, by: &NewRelease) -> Self {
        let signer = by.signature.as_ref().map(|signature| &signature.signer);
        Self::new(&by.created_by, "release.sign", release.label(), json!({ "signer": signer }))
    }

    pub(crate) fn activated(release: &Release, by: &str) -> Self {
        Self::new(by, "release.activate", release.label(), json!({}))
    }

    pub(crate) fn rolled_back(release: &Release, by: &str) -> Self {
        Self::new(by, "release.rollback", release.label(), json!({}))
    }

    pub(crate) fn retired(rollout: &Rollout, reason: &str, by: &str) -> Self {
        let detail = json!({ "release_id": rollout.release_id, "reason": reason });
        Self::new(by, "release.retire", &rollout.projector, detail)
    }

    pub(crate) fn suspended(release: &Release, reason: &str) -> Self {
        Self::new(BELFRY, "release.suspend", release.label(), json!({ "reason": reason }))
    }

    pub(crate) fn of_trial(change: &TrialChange<'_>) -> Self {
        let TrialChange { action, projector, release_id, candidate, suspended_release_id, reason, created_by, .. } =
            *change;
        let mut detail = json!({ "release_id": release_id });
        if let Some(candidate) = candidate {
            detail["candidate_id"] = candidate.release_id.into();
            if let Some(step) = candidate.step {
                detail["step"] = (step + 1).into();
            }
        }
        if let Some(suspended) = suspended_release_id {
            detail["taken_back_id"] = suspended.into();
        }
        if let Some(reason) = reason {
            detail["reason"] = reason.into();
        }
        Self::new(created_by, action, projector, detail)
    }

    pub(crate) fn paused(what: &Paused, reason: Option<&str>, by: &str) -> Self {
        let subject = format!("{} {}", what.kind(), what.name());
        match reason {
            Some(reason) => Self::new(by, "pause.begin", subject.trim_end(), json!({ "reason": reason })),
            None => Self::new(by, "pause.end", subject.trim_end(), json!({})),
        }
    }

    pub(crate) fn token_made(token: &NewToken) -> Self {
        let detail = json!({ "role": token.role, "expires_at_ms": token.expires_at_ms });
        Self::new(&token.created_by, "token.create", &token.name, detail)
    }

    pub(crate) fn token_revoked(name: &str, by: &str) -> Self {
        Self::new(by, "token.revoke", name, json!({}))
    }

    pub(crate) fn parked(filter: &ParkedFilter, request: &NewParkedRequest<'_>, entries: u64) -> Self {
        let detail = json!({
            "topic": filter.topic, "by_key": filter.event_key.is_some(), "position": filter.position, "entries": entries,
            "reason": request.reason,
        });
        let subject = filter.sink.as_deref().unwrap_or("every sink");
        Self::new(request.by, request.request.action(), subject, detail)
    }

    pub(crate) fn sink_forgotten(sink: &Sink, by: &str, reason: &str) -> Self {
        let detail = json!({ "position": sink.position, "parked": sink.parked, "reason": reason });
        Self::new(by, "sink.forget", &sink.name, detail)
    }

    pub(crate) fn gap_skipped(sink: &Sink, by: &str, reason: &str) -> Self {
        let detail = json!({ "position": sink.position, "missing": sink.missing, "reason": reason });
        Self::new(by, "sink.resume", &sink.name, detail)
    }

    /// Describes dead letters about to be redriven. Each dead letter that the redrive settles records that itself.
    pub fn redriven(filter: &DeadLetterFilter, after: i64, by: &str) -> Self {
        let mut detail = dead_letters(filter);
        detail["after"] = after.into();
        Self::new(by, "dead-letter.redrive", whose(filter), detail)
    }

    pub(crate) fn discarded(filter: &DeadLetterFilter, by: &str, reason: &str, count: u64) -> Self {
        let mut detail = dead_letters(filter);
        detail["dead_letters"] = count.into();
        detail["reason"] = reason.into();
        Self::new(by, "dead-letter.discard", whose(filter), detail)
    }

    pub(crate) fn position_set(partition: &SourcePartition, was: Option<i64>, next: i64, by: &str) -> Self {
        let SourcePartition { group, topic, partition } = partition;
        let detail = json!({ "group": group, "was": was, "is": next });
        Self::new(by, "position.set", format!("{topic}/{partition}"), detail)
    }

    /// Describes a release whose answer to an event differs from before, with both outcomes and the fields that differ.
    pub fn answered_differently(release: &str, event_id: Uuid, outcomes: [&str; 2], fields: &[String]) -> Self {
        let [then, now] = outcomes;
        let detail = json!({ "event_id": event_id, "then": then, "now": now, "fields": fields });
        Self::new(BELFRY, "release.differs", release, detail)
    }

    /// Describes a replay: events projected again with a release, and compared with a baseline.
    pub fn replayed(release: &str, by: &str, replay: &Replayed) -> Self {
        let detail = serde_json::to_value(replay).expect("numbers and strings serialize to JSON");
        Self::new(by, REPLAY, release, detail)
    }

    /// Describes a topic about to be changed.
    pub fn topic(topic: &str, what: &str, is: &str, declared: &str, by: &str) -> Self {
        Self::new(by, "topic.apply", topic, json!({ "what": what, "was": is, "is": declared }))
    }
}

fn whose(filter: &DeadLetterFilter) -> String {
    match (filter.id, &filter.projector) {
        (Some(id), _) => format!("dead letter {id}"),
        (None, Some(projector)) => projector.clone(),
        (None, None) => "every projector".to_owned(),
    }
}

fn dead_letters(filter: &DeadLetterFilter) -> Value {
    json!({
        "release_id": filter.release_id, "cause": filter.cause, "code": filter.code, "since_ms": filter.since_ms,
    })
}
