//! Why a cluster that is there does not let us in.
//!
//! Whoever waits for an answer is only told that no broker gave one: librdkafka goes on trying, whatever the reason, and
//! tells it to those alone who poll. So a client is made that listens, when somebody wants to know.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Client;

/// How long a reason is listened for at most. A broker that refuses somebody does so at once, unless its machine is busy.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long each attempt to reach a broker may take.
const ATTEMPT: Duration = Duration::from_millis(100);

/// Why a cluster does not let us in. Somebody has to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It does not believe us.
    #[error(
        "the broker refuses belfry's user or password ({0}); check sasl.mechanism, sasl.username and sasl.password, or \
         sasl.password_file, in [kafka.properties]"
    )]
    Authentication(String),
    /// We do not believe it, or it does not encrypt.
    #[error(
        "no encrypted connection comes about ({0}); check security.protocol and ssl.ca.location in [kafka.properties], \
         and that kafka.brokers has the name that is in the broker's certificate"
    )]
    Encryption(String),
}

impl Refusal {
    fn of(error: &KafkaError, reason: &str) -> Option<Self> {
        // Where and when it happened is told by whoever tells of it.
        let reason = reason.split(" (after ").next().unwrap_or(reason).trim();
        let reason = reason.split_once("/bootstrap: ").map_or(reason, |(_, reason)| reason).to_owned();
        match error.rdkafka_error_code()? {
            RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => {
                Some(Self::Authentication(reason))
            }
            RDKafkaErrorCode::SSL => Some(Self::Encryption(reason)),
            _ => None,
        }
    }
}

impl Client {
    /// Why the cluster does not let us in; none if it does, or is away. Blocks for a moment.
    pub fn refusal(&self) -> Option<Refusal> {
        let heard = Heard::default();
        let mut config = self.base();
        // What it logs, about each handshake and certificate, stands in one queue before the reason, and is taken one by one.
        config.set_log_level(RDKafkaLogLevel::Emerg);
        let consumer: BaseConsumer<Heard> = config.create_with_context(heard.clone()).ok()?;
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if consumer.fetch_metadata(None, ATTEMPT).is_ok() {
                return None;
            }
            while consumer.poll(Duration::ZERO).is_some() {}
            let heard = heard.take();
            if heard.refusal.is_some() || heard.away {
                return heard.refusal;
            }
        }
        None
    }

    /// The same for those who must not block.
    pub async fn why_refused(&self) -> Option<Refusal> {
        let client = self.clone();
        tokio::task::spawn_blocking(move || client.refusal()).await.ok().flatten()
    }
}

/// What was heard of attempts to connect.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Reasons>>);

#[derive(Clone, Default)]
struct Reasons {
    refusal: Option<Refusal>,
    /// No broker can be reached.
    away: bool,
}

impl Heard {
    fn take(&self) -> Reasons {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientContext for Heard {
    /// The client that failed has told its own log.
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match Refusal::of(&error, reason) {
            Some(refusal) => heard.refusal = Some(refusal),
            None => heard.away |= error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown),
        }
    }
}

impl ConsumerContext for Heard {}
