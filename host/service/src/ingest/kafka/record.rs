//! From a record to an event, or to why it is none.

use std::panic::{AssertUnwindSafe, catch_unwind};

use belfry_model::Outcome;
use belfry_store::{Origin, Unreadable, crash_point};
use bytes::Bytes;
use rdkafka::Message;
use rdkafka::message::BorrowedMessage;
use uuid::Uuid;

use super::repeats::{Fingerprint, Repeats, fingerprint};
use crate::ingest::{Arrival, Incoming, NotAnEvent};
use crate::kafka::headers;

/// What every record of the platform carries.
const STANDARD: [&str; 7] =
    ["event_id", "event_type", "trace_id", "source_service", "schema_version", "occurred_at", "content_type"];

/// What a record is.
#[derive(Debug)]
pub(super) enum Record {
    /// An event; with what tells a repetition from its headers alone, if they have its id.
    Event(Box<Incoming>, Option<(Uuid, Fingerprint)>),
    /// No event.
    Unreadable(Unreadable),
    /// One that was committed before, byte for byte.
    Repeated,
    /// Without a value: it removes a key from a compacted topic and tells nothing.
    Tombstone,
}

impl Record {
    /// Read it. An event has at most `max_bytes`.
    ///
    /// A fault of ours costs that record only: otherwise the next replica would end at it as well, and so on.
    pub(super) fn read(message: &BorrowedMessage<'_>, repeats: &Repeats, max_bytes: usize) -> Self {
        let Some(payload) = message.payload() else { return Self::Tombstone };
        let read = || {
            crash_point!("source.record");
            Self::of(message, payload, repeats, max_bytes)
        };
        catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
            let detail =
                "belfry failed while it read this record, which is a fault of belfry's; report it, with the record";
            Self::unreadable(message, payload, None, Outcome::Undecodable, detail.into())
        })
    }

    fn of(message: &BorrowedMessage<'_>, payload: &[u8], repeats: &Repeats, max_bytes: usize) -> Self {
        let named = match event_id(message) {
            Ok(named) => named,
            Err(told) => return Self::unreadable(message, payload, None, Outcome::Malformed, told.into()),
        };
        if let Some(event_id) = named.filter(|event_id| repeats.has(*event_id, payload)) {
            tracing::trace!(%event_id, "a record was committed before");
            return Self::Repeated;
        }
        let bytes = Bytes::copy_from_slice(payload);
        match Incoming::read(bytes, max_bytes, Arrival::Consumed(origin(message))) {
            Ok(event) if named.is_some_and(|named| named != event.envelope.event_id) => {
                let told = "the header event_id is not the envelope's; whoever reads only headers takes it for another";
                let event_id = Some(event.envelope.event_id);
                Self::unreadable(message, payload, event_id, Outcome::Malformed, told.into())
            }
            Ok(event) => Self::Event(Box::new(event), named.map(|event_id| (event_id, fingerprint(payload)))),
            Err(refused) => {
                let outcome = match &refused {
                    NotAnEvent::Malformed(malformed) => malformed.outcome,
                    NotAnEvent::TooLarge { .. } => Outcome::Malformed,
                };
                let event_id = refused.event_id().or(named);
                Self::unreadable(message, payload, event_id, outcome, refused.to_string())
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

/// The event's id by the headers. Headers that are missing are counted.
fn event_id(message: &BorrowedMessage<'_>) -> Result<Option<Uuid>, &'static str> {
    let mut present = [false; STANDARD.len()];
    let mut named = Ok(None);
    for (name, value) in headers(message) {
        let Some(place) = STANDARD.iter().position(|standard| standard.as_bytes() == name) else { continue };
        if name == b"event_id" && !present[place] {
            let text = value.and_then(|value| std::str::from_utf8(value).ok());
            let parsed = text.and_then(|text| Uuid::parse_str(text).ok());
            named = parsed.map(Some).ok_or("the header event_id is no UUID");
        }
        present[place] = true;
    }
    for (name, _) in STANDARD.iter().zip(present).filter(|(_, present)| !present) {
        metrics::counter!("kafka_event_headers_missing_total", "header" => *name).increment(1);
    }
    named
}
