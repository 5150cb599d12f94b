//! Sinks, to which relays send their entries. The set of sink kinds is closed.

mod kafka;
mod redis;
mod stdout;

use std::panic::AssertUnwindSafe;

use belfry_store::{RelayEntry, crash_point};
use futures_util::FutureExt;
use tokio::sync::mpsc;

pub(crate) use kafka::KafkaSink;
pub(crate) use redis::RedisSink;
pub(crate) use stdout::StdoutSink;

use crate::kafka::{Client, TopicLimits};
use crate::redis::Client as RedisClient;

/// The reason why an entry is refused after a panic.
const PANICKED: &str =
    "belfry panicked while sending this entry, which is a bug in belfry; report it with the log's line";

/// The result of sending an entry.
#[derive(Debug)]
pub(crate) struct Ack {
    /// The number under which it was sent.
    pub(crate) number: usize,
    pub(crate) result: Result<(), Refused>,
}

/// Why an entry was not accepted.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The reason lies in the entry itself, or in one that was sent together with it.
    Entry(String),
    /// An earlier entry was refused, and this one must not overtake it.
    Behind(String),
    /// The sink accepts nothing of the entry's topic: the topic does not exist, or Belfry may not write to it.
    Topic {
        /// The topic.
        topic: String,
        /// The sink's message, and what to do about it.
        reason: String,
    },
    /// The sink failed.
    Sink(SinkError),
}

/// Why a sink accepts nothing now.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum SinkError {
    /// It does not answer, or not in time.
    #[error("{0}")]
    Unavailable(String),
    /// An operator has to change something first.
    #[error("{0}")]
    Misconfigured(String),
}

/// The settings of a sink.
#[derive(Clone)]
pub(crate) enum SinkSettings {
    Kafka(Client, TopicLimits),
    Redis(RedisClient),
    Stdout,
}

impl SinkSettings {
    /// Returns the sink's name.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Kafka(..) => "kafka",
            Self::Redis(_) => "redis",
            Self::Stdout => "stdout",
        }
    }

    /// Opens the sink. `acks` receives one acknowledgement for each entry.
    pub(crate) async fn open(&self, acks: mpsc::UnboundedSender<Ack>) -> Result<Sink, SinkError> {
        Ok(match self {
            Self::Kafka(client, limits) => Sink::Kafka(KafkaSink::open(client, limits, acks).await?),
            Self::Redis(client) => Sink::Redis(RedisSink::open(client, acks).await?),
            Self::Stdout => Sink::Stdout(StdoutSink::new(acks)),
        })
    }
}

/// An open connection to a sink. Those entries sent on it that arrive do so in order.
pub(crate) enum Sink {
    Kafka(KafkaSink),
    Redis(RedisSink),
    Stdout(StdoutSink),
}

impl Sink {
    /// Returns why the sink would not accept an entry, if that is known without sending it.
    pub(crate) async fn refuses(&self, entry: &RelayEntry) -> Option<Refused> {
        let refused = async {
            match self {
                Self::Kafka(kafka) => kafka.refuses(entry).await,
                Self::Redis(_) | Self::Stdout(_) => None,
            }
        };
        let panicked = |_| Some(Refused::Entry(PANICKED.to_owned()));
        AssertUnwindSafe(refused).catch_unwind().await.unwrap_or_else(panicked)
    }

    /// Returns why the sink accepts nothing of a topic, if that is known without sending an entry.
    pub(crate) async fn lacks(&self, topic: &str) -> Option<String> {
        match self {
            Self::Kafka(kafka) => kafka.lacks(topic).await,
            Self::Redis(_) | Self::Stdout(_) => None,
        }
    }

    /// Returns whether an entry may arrive although an earlier one, sent at the same time, was refused.
    pub(crate) fn may_pass_a_refusal(&self) -> bool {
        matches!(self, Self::Kafka(_))
    }

    /// Sends an entry under a number. Its acknowledgement arrives later. A panic refuses the entry, so that it is parked
    /// and does not stop the relay again and again.
    pub(crate) async fn send(&mut self, number: usize, entry: &RelayEntry) -> Result<(), SinkError> {
        if let Ok(sent) = AssertUnwindSafe(self.try_send(number, entry)).catch_unwind().await {
            return sent;
        }
        // A relay that is gone reads its position again.
        let _ = self.acks().send(Ack { number, result: Err(Refused::Entry(PANICKED.to_owned())) });
        Ok(())
    }

    async fn try_send(&mut self, number: usize, entry: &RelayEntry) -> Result<(), SinkError> {
        crash_point!("relay.send");
        match self {
            Self::Kafka(kafka) => kafka.send(number, entry).await,
            Self::Redis(redis) => redis.send(number, entry).await,
            Self::Stdout(stdout) => stdout.send(number, entry).await,
        }
    }

    fn acks(&self) -> &mpsc::UnboundedSender<Ack> {
        match self {
            Self::Kafka(kafka) => &kafka.acks,
            Self::Redis(redis) => &redis.acks,
            Self::Stdout(stdout) => &stdout.acks,
        }
    }

    /// Refreshes what is known of the sink's limits, after an operator may have corrected something.
    pub(crate) async fn look_again(&self) -> Result<(), SinkError> {
        match self {
            Self::Kafka(kafka) => kafka.look_again().await,
            Self::Redis(_) | Self::Stdout(_) => Ok(()),
        }
    }

    /// Sends what is buffered, without waiting for more.
    pub(crate) async fn flush(&mut self) -> Result<(), SinkError> {
        match self {
            Self::Kafka(_) => Ok(()),
            Self::Redis(redis) => redis.flush().await,
            Self::Stdout(stdout) => stdout.flush().await,
        }
    }

    /// Discards entries that have not been sent, and closes the connection.
    pub(crate) async fn close(self) {
        match self {
            Self::Kafka(kafka) => kafka.close().await,
            Self::Redis(_) | Self::Stdout(_) => {}
        }
    }
}
