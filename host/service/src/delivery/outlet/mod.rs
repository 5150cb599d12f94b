//! Where a relay hands its entries. Each kind of sink is one of a closed set.

mod kafka;
mod redis;
mod stdout;

use belfry_store::RelayEntry;
use tokio::sync::mpsc;

pub(crate) use kafka::KafkaOutlet;
pub(crate) use redis::RedisOutlet;
pub(crate) use stdout::StdoutOutlet;

use crate::kafka::{Client, TopicLimits};
use crate::redis::Client as RedisClient;

/// What became of an entry that was sent.
#[derive(Debug)]
pub(crate) struct Ack {
    /// The number under which it was sent.
    pub(crate) number: usize,
    pub(crate) result: Result<(), Refused>,
}

/// Why an entry was not taken.
#[derive(Debug)]
pub(crate) enum Refused {
    /// For a reason that lies in the entry itself, or in one that was sent together with it.
    Entry(String),
    /// An entry before it was refused, and it must not pass that one.
    Behind(String),
    /// The sink takes nothing of its topic: it does not have it, or does not let us write to it.
    Topic {
        /// The topic.
        topic: String,
        /// What it says, and what to do.
        reason: String,
    },
    /// The sink is not well.
    Sink(OutletError),
}

/// Why a sink takes nothing now.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum OutletError {
    /// It does not answer, or not in time.
    #[error("{0}")]
    Away(String),
    /// An operator has to change something first.
    #[error("{0}")]
    Barred(String),
}

/// How an outlet is opened.
#[derive(Clone)]
pub(crate) enum OutletSettings {
    Kafka(Client, TopicLimits),
    Redis(RedisClient),
    Stdout,
}

impl OutletSettings {
    /// The sink's name.
    pub(crate) fn sink(&self) -> &'static str {
        match self {
            Self::Kafka(..) => "kafka",
            Self::Redis(_) => "redis",
            Self::Stdout => "stdout",
        }
    }

    /// Open the way to the sink. Acknowledgements arrive at `acks`, for each entry one.
    pub(crate) async fn open(&self, acks: mpsc::UnboundedSender<Ack>) -> Result<Outlet, OutletError> {
        Ok(match self {
            Self::Kafka(client, limits) => Outlet::Kafka(KafkaOutlet::open(client, limits, acks).await?),
            Self::Redis(client) => Outlet::Redis(RedisOutlet::open(client, acks).await?),
            Self::Stdout => Outlet::Stdout(StdoutOutlet::new(acks)),
        })
    }
}

/// An open way to a sink. What is sent on it arrives in order, as far as it arrives.
pub(crate) enum Outlet {
    Kafka(KafkaOutlet),
    Redis(RedisOutlet),
    Stdout(StdoutOutlet),
}

impl Outlet {
    /// Why the sink would not take an entry, where that is known without sending it.
    pub(crate) async fn refuses(&self, entry: &RelayEntry) -> Option<Refused> {
        match self {
            Self::Kafka(kafka) => kafka.refuses(entry).await,
            Self::Redis(_) | Self::Stdout(_) => None,
        }
    }

    /// Why the sink takes nothing of a topic, where that is known without sending something.
    pub(crate) async fn lacks(&self, topic: &str) -> Option<String> {
        match self {
            Self::Kafka(kafka) => kafka.lacks(topic).await,
            Self::Redis(_) | Self::Stdout(_) => None,
        }
    }

    /// Whether an entry may arrive although one before it, sent at the same time, was refused.
    pub(crate) fn may_pass_a_refusal(&self) -> bool {
        matches!(self, Self::Kafka(_))
    }

    /// Send an entry under a number; its acknowledgement comes later.
    pub(crate) async fn send(&mut self, number: usize, entry: &RelayEntry) -> Result<(), OutletError> {
        match self {
            Self::Kafka(kafka) => kafka.send(number, entry).await,
            Self::Redis(redis) => redis.send(number, entry).await,
            Self::Stdout(stdout) => stdout.send(number, entry).await,
        }
    }

    /// Somebody mended something: believe nothing that was known of what the sink takes.
    pub(crate) async fn look_again(&self) -> Result<(), OutletError> {
        match self {
            Self::Kafka(kafka) => kafka.look_again().await,
            Self::Redis(_) | Self::Stdout(_) => Ok(()),
        }
    }

    /// Do not wait for more to send together.
    pub(crate) async fn flush(&mut self) -> Result<(), OutletError> {
        match self {
            Self::Kafka(_) => Ok(()),
            Self::Redis(redis) => redis.flush().await,
            Self::Stdout(stdout) => stdout.flush().await,
        }
    }

    /// Forget what has not been sent, and close the way.
    pub(crate) async fn close(self) {
        match self {
            Self::Kafka(kafka) => kafka.close().await,
            Self::Redis(_) | Self::Stdout(_) => {}
        }
    }
}
