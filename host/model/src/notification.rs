use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::notification_limits::MAX_THREAD_BYTES;
use crate::{
    Identity, JsonTextError, MAX_NOTIFICATIONS, MAX_PAYLOAD_BYTES, MAX_PAYLOAD_DEPTH, Outcome, compact_object,
    format_instant_ms,
};

/// How urgent a notification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the contract in wit/ documents the levels")]
pub enum Priority {
    Low,
    Standard,
    High,
    Immediate,
    Critical,
}

impl Priority {
    /// Returns the name used on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Standard => "standard",
            Self::High => "high",
            Self::Immediate => "immediate",
            Self::Critical => "critical",
        }
    }
}

/// How repeated notifications are to be handled. Not implemented yet, so [`accept`] rejects it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the contract in wit/ documents the cases")]
pub enum Policy {
    UnlessRepeated { key: String, seconds: u32 },
    Throttle { key: String, seconds: u32, limit: u32 },
    Digest { key: String, seconds: u32 },
}

/// A notification as a projector returned it, not yet validated.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the contract in wit/ documents the fields, in the same words for every language")]
pub struct Draft {
    pub recipient: String,
    pub notification_type: String,
    pub category: String,
    pub priority: Priority,
    pub payload: String,
    pub key: String,
    pub action_required: bool,
    pub deadline_ms: Option<i64>,
    pub batch_id: Option<String>,
    pub class_id: Option<String>,
    pub thread: Option<String>,
    pub not_before_ms: Option<i64>,
    pub expires_at_ms: Option<i64>,
    pub policies: Vec<Policy>,
}

/// A projector's answer to an event, not yet validated.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the contract in wit/ documents the fields, in the same words for every language")]
pub struct DraftAnswer {
    pub notifications: Vec<Draft>,
    pub withdrawals: Vec<Withdrawal>,
}

/// Takes back what is still held of a thread. Not implemented yet, so [`accept`] rejects it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the contract in wit/ documents the fields, in the same words for every language")]
pub struct Withdrawal {
    pub recipient: String,
    pub notification_type: String,
    pub thread: String,
}

/// A notification that satisfies the contract.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the contract in wit/ documents the fields, in the same words for every language")]
pub struct Notification {
    /// The id that is derived from its [`Identity`].
    pub id: Uuid,
    pub recipient: String,
    pub notification_type: String,
    pub category: String,
    pub priority: Priority,
    /// A JSON object without whitespace between tokens.
    pub payload: String,
    pub key: String,
    pub action_required: bool,
    /// RFC 3339.
    pub deadline: Option<String>,
    pub batch_id: Option<String>,
    pub class_id: Option<String>,
    pub thread: Option<String>,
    pub expires_at_ms: Option<i64>,
}

/// The reason why a projector's answer is refused. An answer is refused as a whole, since half of one would mislead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// `OutputLimit`, `InvalidOutput` or `UnsupportedFeature`.
    pub outcome: Outcome,
    /// Describes the error, with the notification's index and the field. Never quotes the content.
    pub detail: String,
}

impl Refusal {
    pub(crate) fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { outcome, detail: detail.into() }
    }
}

/// Validates a projector's answer against the contract and assigns each notification its id.
///
/// `categories` are the categories in the host's configuration.
pub fn accept(
    answer: DraftAnswer,
    source_event_id: Uuid,
    projector: &str,
    categories: &[String],
) -> Result<Vec<Notification>, Refusal> {
    let DraftAnswer { notifications: drafts, withdrawals } = answer;
    if !withdrawals.is_empty() {
        return Err(unsupported("withdrawals"));
    }
    if drafts.len() > MAX_NOTIFICATIONS {
        let detail = format!("{} notifications returned; at most {MAX_NOTIFICATIONS} are allowed", drafts.len());
        return Err(Refusal::new(Outcome::OutputLimit, detail));
    }
    let mut seen = HashSet::with_capacity(drafts.len());
    let mut notifications = Vec::with_capacity(drafts.len());
    for (place, draft) in drafts.into_iter().enumerate() {
        let at_place = |refusal: Refusal| Refusal { detail: format!("notification {place}: {refusal}"), ..refusal };
        let notification = accept_one(draft, source_event_id, projector, categories).map_err(at_place)?;
        if !seen.insert(notification.id) {
            let detail = "has the same recipient, type and key as an earlier notification; use different keys";
            return Err(at_place(Refusal::new(Outcome::InvalidOutput, detail)));
        }
        notifications.push(notification);
    }
    Ok(notifications)
}

fn accept_one(
    draft: Draft,
    source_event_id: Uuid,
    projector: &str,
    categories: &[String],
) -> Result<Notification, Refusal> {
    check_supported(&draft)?;
    check_texts(&draft, categories)?;
    let identity = Identity {
        source_event_id,
        projector,
        recipient: &draft.recipient,
        notification_type: &draft.notification_type,
        key: &draft.key,
    };
    let instant = |name: &str, ms: i64| {
        format_instant_ms(ms).map_err(|error| Refusal::new(Outcome::InvalidOutput, format!("{name}: {error}")))
    };
    // Neither a calendar nor a database column for times can represent a time outside this range.
    draft.expires_at_ms.map(|ms| instant("expires-at", ms)).transpose()?;
    Ok(Notification {
        id: identity.id(),
        payload: accept_payload(&draft.payload)?,
        deadline: draft.deadline_ms.map(|ms| instant("deadline", ms)).transpose()?,
        recipient: draft.recipient,
        notification_type: draft.notification_type,
        category: draft.category,
        priority: draft.priority,
        key: draft.key,
        action_required: draft.action_required,
        batch_id: draft.batch_id,
        class_id: draft.class_id,
        thread: draft.thread,
        expires_at_ms: draft.expires_at_ms,
    })
}

fn check_supported(draft: &Draft) -> Result<(), Refusal> {
    if draft.not_before_ms.is_some() {
        return Err(unsupported("not-before"));
    }
    if !draft.policies.is_empty() {
        return Err(unsupported("policies"));
    }
    Ok(())
}

fn unsupported(feature: &str) -> Refusal {
    let detail = format!("{feature}: this version of Belfry does not implement it; leave it empty");
    Refusal::new(Outcome::UnsupportedFeature, detail)
}

fn check_texts(draft: &Draft, categories: &[String]) -> Result<(), Refusal> {
    let invalid = |detail: String| Err(Refusal::new(Outcome::InvalidOutput, detail));
    if draft.notification_type.is_empty() {
        return invalid("notification-type: must not be empty".into());
    }
    let texts = [
        ("recipient", Some(&draft.recipient)),
        ("notification-type", Some(&draft.notification_type)),
        ("key", Some(&draft.key)),
        ("batch-id", draft.batch_id.as_ref()),
        ("class-id", draft.class_id.as_ref()),
        ("thread", draft.thread.as_ref()),
    ];
    for (name, text) in texts {
        if text.is_some_and(|text| text.contains('\0')) {
            return invalid(format!("{name}: must not contain U+0000"));
        }
    }
    if let Some(thread) = &draft.thread
        && !(1..=MAX_THREAD_BYTES).contains(&thread.len())
    {
        return invalid(format!("thread: must have 1 to {MAX_THREAD_BYTES} bytes, not {}", thread.len()));
    }
    if !categories.contains(&draft.category) {
        return invalid(format!(
            "category: not a configured category ({}); use one of these, or add it to [notification] categories",
            categories.join(", ")
        ));
    }
    Ok(())
}

fn accept_payload(payload: &str) -> Result<String, Refusal> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        let detail = format!("payload: {} bytes; at most {MAX_PAYLOAD_BYTES} are allowed", payload.len());
        return Err(Refusal::new(Outcome::OutputLimit, detail));
    }
    compact_object(payload, MAX_PAYLOAD_DEPTH)
        .map_err(|error: JsonTextError| Refusal::new(Outcome::InvalidOutput, format!("payload: {error}")))
}
