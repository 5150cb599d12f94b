//! Publishes each notification on its teacher's channel, as the platform's WebSocket service does. Events are not for
//! teachers, so they are skipped.

use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{ErrorKind, Pipeline, RedisError, ServerErrorKind};
use belfry_model::RealTimeMessage;
use belfry_store::{RelayEntry, crash_point};
use tokio::sync::mpsc;

use super::{Ack, Refused, SinkError};
use crate::redis::Client;

/// Time limit for a batch of messages.
const ANSWER: Duration = Duration::from_secs(3);
/// Maximum number of messages, and of bytes, in a batch.
const MAX_MESSAGES: usize = 500;
const MAX_BYTES: usize = 1 << 20;

pub(crate) struct RedisSink {
    connection: MultiplexedConnection,
    messages: Pipeline,
    bytes: usize,
    /// The numbers of the buffered messages.
    waiting: Vec<usize>,
    pub(super) acks: mpsc::UnboundedSender<Ack>,
}

impl RedisSink {
    pub(super) async fn open(client: &Client, acks: mpsc::UnboundedSender<Ack>) -> Result<Self, SinkError> {
        let mut connection = client.connect(ANSWER).await.map_err(|error| failed(&error))?;
        // Half-open: if Redis does not answer now, entries would only fill the buffer.
        ::redis::cmd("PING").query_async::<()>(&mut connection).await.map_err(|error| failed(&error))?;
        Ok(Self { connection, messages: Pipeline::new(), bytes: 0, waiting: Vec::new(), acks })
    }

    pub(super) async fn send(&mut self, number: usize, entry: &RelayEntry) -> Result<(), SinkError> {
        if !entry.is_notification {
            self.acknowledge(number, Ok(()));
            return Ok(());
        }
        match RealTimeMessage::of(&entry.payload) {
            Ok(message) => {
                self.bytes += message.text.len();
                self.messages.cmd("PUBLISH").arg(message.channel).arg(message.text).ignore();
                self.waiting.push(number);
            }
            Err(error) => self.acknowledge(number, Err(Refused::Entry(error.to_string()))),
        }
        if self.waiting.len() >= MAX_MESSAGES || self.bytes >= MAX_BYTES { self.flush().await } else { Ok(()) }
    }

    pub(super) async fn flush(&mut self) -> Result<(), SinkError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.messages.query_async::<()>(&mut self.connection).await.map_err(|error| failed(&error))?;
        crash_point!("relay.after-produce");
        self.messages.clear();
        self.bytes = 0;
        for number in std::mem::take(&mut self.waiting) {
            self.acknowledge(number, Ok(()));
        }
        Ok(())
    }

    fn acknowledge(&self, number: usize, result: Result<(), Refused>) {
        // If the session is gone, the next one starts from the stored position.
        let _ = self.acks.send(Ack { number, result });
    }
}

/// Classifies an error: an outage is waited out; a missing permission requires an operator.
fn failed(error: &RedisError) -> SinkError {
    match error.kind() {
        ErrorKind::AuthenticationFailed => {
            SinkError::Misconfigured(format!("{error}; check user and password in redis.url"))
        }
        ErrorKind::Server(ServerErrorKind::NoPerm) => {
            SinkError::Misconfigured(format!("{error}; allow PUBLISH on the channels ws:*"))
        }
        _ => SinkError::Unavailable(error.to_string()),
    }
}
