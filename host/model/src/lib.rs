//! The data model of Belfry: envelopes, events, notifications and their ids. Nothing here does I/O.
//!
//! An event arrives as bytes and is parsed into an [`Envelope`]; types that the contract defines also become a typed
//! [`Event`]. A projector returns [`Notification`]s. [`Message::finish`] turns each of them into the text that
//! teachers' clients receive, under an id derived from the notification's identity.

mod canonical;
mod content_hash;
mod decimal;
mod envelope;
mod event;
mod json_limits;
mod json_pointer;
mod json_text;
mod json_tokens;
mod message;
mod notification;
mod notification_id;
mod notification_limits;
mod outcome;
mod real_time;
mod sabotage;
mod teacher_notification;
mod timestamp;
mod topic_name;

pub use canonical::canonical_json;
pub use content_hash::{CONTENT_NAMESPACE, ContentHash, content_hash, content_id};
pub use envelope::{Envelope, Malformed};
pub use event::{
    BATCH_ASSESSMENT_COMPLETED_V1, BATCH_RESULTS_READY_V1, BatchAssessmentCompletedV1, BatchResultsReadyV1, Event,
    PhaseResult, Ranking,
};
pub use json_limits::{JsonLimit, MAX_JSON_DEPTH};
pub use json_text::{JsonObject, JsonTextError, compact_object, without_whitespace};
pub use message::{Cause, Message, MessageSettings};
pub use notification::{Draft, DraftAnswer, Notification, Policy, Priority, Refusal, Withdrawal, accept};
pub use notification_id::{Identity, NOTIFICATION_NAMESPACE};
pub use notification_limits::{MAX_MESSAGE_BYTES, MAX_NOTIFICATIONS, MAX_PAYLOAD_BYTES, MAX_PAYLOAD_DEPTH};
pub use outcome::Outcome;
pub use real_time::{NotANotification, RealTimeMessage};
pub use sabotage::sabotaged;
pub use teacher_notification::{ForeignTeacherNotification, TeacherNotificationRequestedV1};
pub use timestamp::{InvalidTimestamp, format_instant_ms, parse_instant_ms};
pub use topic_name::is_topic_name;
