use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{Envelope, MAX_MESSAGE_BYTES, Notification, Outcome, Refusal, TeacherNotificationRequestedV1};

/// Operator settings for all messages.
#[derive(Clone, Debug)]
pub struct MessageSettings {
    /// The topic, which is also the event type.
    pub topic: String,
    /// The service to name as the source; if `None`, the source of the event.
    pub source_service: Option<String>,
}

/// The origin of a notification, sent with it as `metadata.belfry`.
#[derive(Clone, Copy, Debug)]
pub struct Cause<'a> {
    /// The projector's name.
    pub projector: &'a str,
    /// The release's label: `name@version#id`.
    pub release: &'a str,
}

/// A notification as it is sent: an envelope around TeacherNotificationRequestedV1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The notification's id, which is also the envelope's id.
    pub id: Uuid,
    /// The topic, which is also the envelope's event type.
    pub topic: String,
    /// The service that the envelope names as its source.
    pub source_service: String,
    /// The envelope as one line of JSON.
    pub text: String,
}

impl Message {
    /// Writes the message. Returns an error if it is larger than [`MAX_MESSAGE_BYTES`].
    pub fn finish(
        notification: &Notification,
        envelope: &Envelope,
        cause: Cause<'_>,
        settings: &MessageSettings,
    ) -> Result<Self, Refusal> {
        let correlation_id = envelope.correlation_id;
        let mut buffer = Uuid::encode_buffer();
        let correlation_text = correlation_id.hyphenated().encode_lower(&mut buffer);
        let source_service = settings.source_service.as_ref().unwrap_or(&envelope.source_service);
        let payload = serde_json::from_str(&notification.payload).expect("an accepted notification's payload is JSON");
        let outgoing = OutgoingEnvelope {
            event_id: notification.id,
            event_type: &settings.topic,
            event_timestamp: &envelope.event_timestamp,
            source_service,
            schema_version: 1,
            correlation_id,
            data_schema_uri: None,
            data: TeacherNotificationRequestedV1 {
                teacher_id: Cow::from(&notification.recipient),
                notification_type: Cow::from(&notification.notification_type),
                category: Cow::from(&notification.category),
                priority: Cow::from(notification.priority.as_str()),
                payload,
                action_required: notification.action_required,
                deadline_timestamp: notification.deadline.as_deref().map(Cow::from),
                correlation_id: Cow::from(&*correlation_text),
                batch_id: notification.batch_id.as_deref().map(Cow::from),
                class_id: notification.class_id.as_deref().map(Cow::from),
                timestamp: Cow::from(&envelope.event_timestamp),
            },
            metadata: OutgoingMetadata {
                traceparent: envelope.metadata_str("traceparent"),
                tracestate: envelope.metadata_str("tracestate"),
                belfry: Provenance {
                    source_event_id: envelope.event_id,
                    projector: cause.projector,
                    release: cause.release,
                    thread: notification.thread.as_deref(),
                },
            },
        };
        let text = serde_json::to_string(&outgoing).expect("strings and numbers always serialize to JSON");
        if text.len() > MAX_MESSAGE_BYTES {
            let detail = format!("a finished message of {} bytes; at most {MAX_MESSAGE_BYTES} are allowed", text.len());
            return Err(Refusal::new(Outcome::OutputLimit, detail));
        }
        Ok(Self { id: notification.id, topic: settings.topic.clone(), source_service: source_service.clone(), text })
    }
}

#[derive(Serialize)]
struct OutgoingEnvelope<'a> {
    event_id: Uuid,
    event_type: &'a str,
    event_timestamp: &'a str,
    source_service: &'a str,
    schema_version: u32,
    correlation_id: Uuid,
    data_schema_uri: Option<&'a str>,
    data: TeacherNotificationRequestedV1<'a, &'a RawValue>,
    metadata: OutgoingMetadata<'a>,
}

/// Never has `partition_key`: the message's key is its teacher, not the key that the source chose for the event.
#[derive(Serialize)]
struct OutgoingMetadata<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<&'a str>,
    belfry: Provenance<'a>,
}

#[derive(Serialize)]
struct Provenance<'a> {
    source_event_id: Uuid,
    projector: &'a str,
    release: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<&'a str>,
}
