//! What people change, and what Belfry changes by itself: the audit log. Each change is noted in the transaction that makes
//! it, so that neither is there without the other.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    DeadLetterFilter, NewParkedRequest, NewRelease, NewToken, ParkedFilter, Paused, Release, Rollout, Sink,
    SourcePartition, Store, StoreError, TrialChange,
};

/// Who changes what Belfry changes by itself.
const BELFRY: &str = "belfry";
/// What a replay is called. It changes nothing, and is what a later change may have to show.
const REPLAY: &str = "release.replay";

/// A change to be noted.
#[derive(Clone, Debug)]
pub struct NewChange {
    /// The name of a token, `local`, or `belfry`.
    pub by: String,
    /// What was done, such as `release.activate`: a kind of thing, and what became of it.
    pub action: &'static str,
    /// To what.
    pub subject: String,
    /// What there is to know beyond that: a JSON object.
    pub detail: Value,
}

/// A change that was noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its number; later changes have higher ones.
    pub id: i64,
    /// When.
    pub at_ms: i64,
    /// Who.
    pub by: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub subject: String,
    /// As JSON.
    pub detail: String,
}

/// What a replay found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// The release that the candidate was compared with; none if that was what had been recorded.
    pub baseline_id: Option<i64>,
    /// The span of time, as RFC 3339.
    pub from: String,
    /// Its end.
    pub to: String,
    /// Events that were projected.
    pub events: u64,
    /// Of those, how many the candidate failed on or rejected.
    pub not_projected: u64,
    /// Whether only what is about one subject was taken.
    pub one_subject: bool,
    /// Notifications that only the candidate tells.
    pub added: u64,
    /// That it does not tell any more.
    pub removed: u64,
    /// That read differently.
    pub changed: u64,
}

/// Which changes are meant: those to which all of this applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeFilter {
    /// By whom.
    pub by: Option<String>,
    /// What was done: an action, or a kind of thing such as `release` for all that is done to those.
    pub action: Option<String>,
    /// To what.
    pub subject: Option<String>,
    /// Since when.
    pub since_ms: Option<i64>,
}

impl NewChange {
    fn new(by: &str, action: &'static str, subject: impl Into<String>, detail: Value) -> Self {
        Self { by: by.to_owned(), action, subject: subject.into(), detail }
    }

    pub(crate) fn pushed(release: &Release) -> Self {
        Self::new(&release.created_by, "release.push", release.label(), json!({ "note": release.note }))
    }

    /// Somebody vouches for a release that was there.
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

    /// Dead letters are about to be tried again; each that is settled by it says so itself.
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

    /// A release gave another answer to an event than before; `outcomes` of both times, and what differs.
    pub fn answered_differently(release: &str, event_id: Uuid, outcomes: [&str; 2], fields: &[String]) -> Self {
        let [then, now] = outcomes;
        let detail = json!({ "event_id": event_id, "then": then, "now": now, "fields": fields });
        Self::new(BELFRY, "release.differs", release, detail)
    }

    /// Events were projected again with a release, and compared with what another makes of them.
    pub fn replayed(release: &str, by: &str, replay: &Replayed) -> Self {
        let detail = serde_json::to_value(replay).expect("numbers and texts are JSON");
        Self::new(by, REPLAY, release, detail)
    }

    /// A topic is about to be changed.
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

impl Store {
    /// Note a change that is not made in the database.
    pub async fn note_change(&self, change: &NewChange, now_ms: i64) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.note_change(change, now_ms).await,
            Self::Postgres(postgres) => postgres.note_change(change, now_ms).await,
        }
    }

    /// The replays of a release since some time, the latest first; so many at most.
    pub async fn replays(&self, release: &str, since_ms: i64, limit: u32) -> Result<Vec<Replayed>, StoreError> {
        let filter = ChangeFilter {
            action: Some(REPLAY.to_owned()),
            subject: Some(release.to_owned()),
            since_ms: Some(since_ms),
            by: None,
        };
        let noted = self.changes(&filter, i64::MAX, limit).await?;
        Ok(noted.iter().filter_map(|change| serde_json::from_str(&change.detail).ok()).collect())
    }

    /// Up to `limit` changes before a number, the latest first.
    pub async fn changes(&self, filter: &ChangeFilter, before: i64, limit: u32) -> Result<Vec<Change>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.changes(filter, before, limit).await,
            Self::Postgres(postgres) => postgres.changes(filter, before, limit).await,
        }
    }
}
