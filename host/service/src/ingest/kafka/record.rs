//! Turns a record into an event, or into the reason why it is not one.

use std::panic::{AssertUnwindSafe, catch_unwind};

use belfry_model::Outcome;
use belfry_store::{Origin, Unreadable, crash_point};
use bytes::Bytes;
use rdkafka::Message;
use rdkafka::message::BorrowedMessage;
use uuid::Uuid;

use super::identity::Identities;
use super::recent_records::{Fingerprint, RecentRecords, fingerprint};
use crate::config::EventIdentity;
use crate::incoming::{Arrival, Incoming, NotAnEvent};
use crate::kafka::headers;

/// The headers that every record of the platform carries.
const STANDARD: [&str; 7] =
    ["event_id", "event_type", "trace_id", "source_service", "schema_version", "occurred_at", "content_type"];

const DIFFERENT: &str = "the header event_id is not the envelope's, and consumers that read only headers take it for another \
                         event; correct the producer, or set in kafka.identity which one counts";

const MISSING: &str =
    "the header event_id is missing, but according to kafka.identity it identifies the events of this topic";

/// The result of reading a record.
#[derive(Debug)]
pub(super) enum Record {
    /// An event. If its headers have an id, also that id and the fingerprint by which a repetition is recognized.
    Event(Box<Incoming>, Option<(Uuid, Fingerprint)>),
    /// Not an event.
    Unreadable(Unreadable),
    /// A record that was committed before, byte for byte.
    Repeated,
    /// A record without a value. It removes a key from a compacted topic and carries no event.
    Tombstone,
}

/// Settings for reading records.
#[derive(Clone, Debug)]
pub(super) struct RecordSettings {
    /// What identifies the events of each topic.
    pub(super) identities: Identities,
    /// Maximum size of an event, in bytes.
    pub(super) max_bytes: usize,
}

impl Record {
    /// Reads a record.
    ///
    /// A bug in Belfry costs only this record. Uncaught, its panic would end the next replica at the same record, and so
    /// on.
    pub(super) fn read(message: &BorrowedMessage<'_>, repeats: &RecentRecords, settings: &RecordSettings) -> Self {
        let Some(payload) = message.payload() else { return Self::Tombstone };
        let read = || {
            crash_point!("source.record");
            Self::of(message, payload, repeats, settings)
        };
        catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
            Self::Unreadable(Unreadable::fault(&origin(message), None, Bytes::copy_from_slice(payload)))
        })
    }

    fn of(message: &BorrowedMessage<'_>, payload: &[u8], repeats: &RecentRecords, settings: &RecordSettings) -> Self {
        let identity = settings.identities.of(message.topic());
        let named = match (event_id(message), identity) {
            (_, Some(EventIdentity::Content)) | (Err(_), Some(EventIdentity::Envelope)) => None,
            (Ok(named), _) => named,
            (Err(invalid), _) => return Self::unreadable(message, payload, None, Outcome::Malformed, invalid.into()),
        };
        if let Some(event_id) = named.filter(|event_id| repeats.has(*event_id, payload)) {
            tracing::trace!(%event_id, "the record was committed before");
            return Self::Repeated;
        }
        let bytes = Bytes::copy_from_slice(payload);
        let event = match Incoming::read(bytes, settings.max_bytes, Arrival::Consumed(origin(message))) {
            Ok(event) => event,
            Err(refused) => {
                let outcome = match &refused {
                    NotAnEvent::Malformed(malformed) => malformed.outcome,
                    NotAnEvent::TooLarge { .. } => Outcome::Malformed,
                };
                let own_id = refused.event_id().filter(|_| identity != Some(EventIdentity::Header));
                let event_id = own_id.or(named);
                return Self::unreadable(message, payload, event_id, outcome, refused.to_string());
            }
        };
        let own_id = event.envelope.event_id;
        let identified = match identity {
            None if named.is_some_and(|named| named != own_id) => Err(DIFFERENT),
            None | Some(EventIdentity::Envelope) => Ok(event),
            Some(EventIdentity::Header) => named.map(|event_id| event.known_as(event_id)).ok_or(MISSING),
            Some(EventIdentity::Content) => Ok(settings.identities.by_content(event, message.timestamp().to_millis())),
        };
        match identified {
            Ok(event) => Self::Event(Box::new(event), named.map(|event_id| (event_id, fingerprint(payload)))),
            Err(detail) => {
                let event_id = identity.is_none().then_some(own_id);
                Self::unreadable(message, payload, event_id, Outcome::Malformed, detail.into())
            }
        }
    }

    fn unreadable(
        message: &BorrowedMessage<'_>,
        payload: &[u8],
        event_id: Option<Uuid>,
        outcome: Outcome,
        detail: String,
    ) -> Self {
        let Origin { topic, partition, offset } = origin(message);
        let payload = Bytes::copy_from_slice(payload);
        Self::Unreadable(Unreadable { topic, partition, offset, event_id, cause: outcome.as_str(), detail, payload })
    }
}

fn origin(message: &BorrowedMessage<'_>) -> Origin {
    Origin { topic: message.topic().to_owned(), partition: message.partition(), offset: message.offset() }
}

/// Returns the event's id according to the headers. Counts missing headers.
fn event_id(message: &BorrowedMessage<'_>) -> Result<Option<Uuid>, &'static str> {
    let mut present = [false; STANDARD.len()];
    let mut named = Ok(None);
    for (name, value) in headers(message) {
        let Some(place) = STANDARD.iter().position(|standard| standard.as_bytes() == name) else { continue };
        if name == b"event_id" && !present[place] {
            let text = value.and_then(|value| std::str::from_utf8(value).ok());
            let parsed = text.and_then(|text| Uuid::parse_str(text).ok());
            named = parsed.map(Some).ok_or("the header event_id is not a UUID");
        }
        present[place] = true;
    }
    for (name, _) in STANDARD.iter().zip(present).filter(|(_, present)| !present) {
        metrics::counter!("kafka_event_headers_missing_total", "header" => *name).increment(1);
    }
    named
}
