//! Events that conform to the wire contract, and how they arrived.

use std::sync::Arc;

use belfry_model::{ContentHash, Envelope, Event, Malformed, content_hash};
use belfry_store::Origin;
use bytes::Bytes;
use uuid::Uuid;

/// An event that conforms to the wire contract, ready for the pipeline.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Its envelope.
    pub envelope: Arc<Envelope>,
    /// Its data, typed according to the contract.
    pub event: Arc<Event>,
    /// The bytes exactly as received.
    pub payload: Bytes,
    /// Distinguishes a duplicate from a conflict.
    pub content_hash: ContentHash,
    /// How it arrived.
    pub arrival: Arrival,
    /// Other ids under which the same content may be recorded. Empty unless the event is identified by its content.
    pub aliases: Vec<Uuid>,
}

/// How an event arrived. This decides whether Belfry publishes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A client posted it and waits for the response. It is published to the topic of its type.
    Posted,
    /// It was read from its own topic, so it is recorded but not published there again.
    Consumed(Origin),
    /// A service submitted it within its own transaction. It is published.
    Submitted {
        /// Its row.
        origin: Origin,
        /// The partition key, if the service chose one.
        event_key: Option<String>,
        /// The topic, if the service chose a different one than that of the event's type.
        topic: Option<String>,
    },
}

impl Arrival {
    /// Returns where the event was read, or `None` if a client waits for the response.
    pub fn origin(&self) -> Option<&Origin> {
        match self {
            Self::Posted => None,
            Self::Consumed(origin) | Self::Submitted { origin, .. } => Some(origin),
        }
    }
}

/// Why bytes are not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnEvent {
    /// They violate the wire contract.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// There are too many of them.
    #[error("{bytes} bytes, at most {limit} are taken; put large data into storage and send a reference")]
    TooLarge {
        /// The number of bytes.
        bytes: usize,
        /// The maximum.
        limit: usize,
    },
}

impl NotAnEvent {
    /// Returns the event's id, if it could be read.
    pub fn event_id(&self) -> Option<Uuid> {
        match self {
            Self::Malformed(malformed) => malformed.event_id,
            Self::TooLarge { .. } => None,
        }
    }
}

impl Incoming {
    /// Reads an event of at most `max_bytes`.
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

    /// Returns the same event under an id other than that of its envelope.
    pub fn known_as(self, event_id: Uuid) -> Self {
        let envelope = Arc::new(Arc::unwrap_or_clone(self.envelope).known_as(event_id));
        Self { envelope, ..self }
    }

    /// Returns the topic to which the event is published, if it is published.
    pub fn topic(&self) -> &str {
        match &self.arrival {
            Arrival::Submitted { topic: Some(topic), .. } => topic,
            _ => &self.envelope.event_type,
        }
    }
}
