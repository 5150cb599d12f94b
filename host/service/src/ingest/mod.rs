//! From bytes to events that the pipeline can take.

pub mod kafka;
pub(crate) mod postgres;

use std::sync::Arc;

use belfry_model::{ContentHash, Envelope, Event, Malformed, content_hash};
use belfry_store::Origin;
use bytes::Bytes;
use uuid::Uuid;

/// An event that keeps the wire contract, ready for the pipeline.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// What is known of it.
    pub envelope: Arc<Envelope>,
    /// Its data as the contract types it.
    pub event: Arc<Event>,
    /// Exactly the bytes received.
    pub payload: Bytes,
    /// Tells a repetition from a conflict.
    pub content_hash: ContentHash,
    /// How it came.
    pub arrival: Arrival,
    /// Where its content is its identity: other ids under which the same content may be known.
    pub aliases: Vec<Uuid>,
}

/// How an event came to us, which decides whether we publish it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Somebody posted it and waits for an answer. It is published to the topic of its type.
    Posted,
    /// It was read from its own topic, so it is recorded and not published there again.
    Consumed(Origin),
    /// A service submitted it within a transaction of its own. It is published.
    Submitted {
        /// Its row.
        origin: Origin,
        /// The partition key, if the service chose one.
        event_key: Option<String>,
        /// The topic, if the service chose another than that of the event's type.
        topic: Option<String>,
    },
}

impl Arrival {
    /// Where it was read, if nobody waits for an answer.
    pub fn origin(&self) -> Option<&Origin> {
        match self {
            Self::Posted => None,
            Self::Consumed(origin) | Self::Submitted { origin, .. } => Some(origin),
        }
    }
}

/// Why bytes are no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnEvent {
    /// They break the wire contract.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// They are too many.
    #[error("{bytes} bytes, at most {limit} are taken; put large data into storage and send a reference")]
    TooLarge {
        /// How many there are.
        bytes: usize,
        /// How many are taken.
        limit: usize,
    },
}

impl NotAnEvent {
    /// The event's id, if that much could be read.
    pub fn event_id(&self) -> Option<Uuid> {
        match self {
            Self::Malformed(malformed) => malformed.event_id,
            Self::TooLarge { .. } => None,
        }
    }
}

impl Incoming {
    /// Read an event of at most `max_bytes`.
    pub fn read(payload: Bytes, max_bytes: usize, arrival: Arrival) -> Result<Self, NotAnEvent> {
        if payload.len() > max_bytes {
            return Err(NotAnEvent::TooLarge { bytes: payload.len(), limit: max_bytes });
        }
        let envelope = Envelope::parse(&payload)?;
        let event = Event::from_envelope(&envelope)?;
        let content_hash = content_hash(&envelope);
        let (envelope, event) = (Arc::new(envelope), Arc::new(event));
        Ok(Self { envelope, event, payload, content_hash, arrival, aliases: Vec::new() })
    }

    /// The same event under another id than its envelope's own.
    pub fn known_as(self, event_id: Uuid) -> Self {
        let envelope = Arc::new(Arc::unwrap_or_clone(self.envelope).known_as(event_id));
        Self { envelope, ..self }
    }

    /// The topic to which it is published, if it is.
    pub fn topic(&self) -> &str {
        match &self.arrival {
            Arrival::Submitted { topic: Some(topic), .. } => topic,
            _ => &self.envelope.event_type,
        }
    }
}
