//! Why a cluster that is available denies access.
//!
//! A caller that waits for a response only learns that no broker gave one: librdkafka keeps trying, regardless of the
//! reason, and reports it only to clients that poll. So when the reason is needed, a separate client is created that polls
//! for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Client;

/// Maximum time to wait for a reason. A broker refuses a client at once, unless its machine is busy.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time limit for each attempt to reach a broker.
const ATTEMPT: Duration = Duration::from_millis(100);

/// Why a cluster denies access. An operator has to correct it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The broker rejects Belfry's credentials.
    #[error(
        "the broker refuses belfry's user or password ({0}); check sasl.mechanism, sasl.username and sasl.password, or \
         sasl.password_file, in [kafka.properties]"
    )]
    Authentication(String),
    /// Belfry does not trust the broker, or the broker does not encrypt.
    #[error(
        "cannot establish an encrypted connection ({0}); check security.protocol and ssl.ca.location in \
         [kafka.properties], and that kafka.brokers has the name that is in the broker's certificate"
    )]
    Encryption(String),
}

impl Refusal {
    fn of(error: &KafkaError, reason: &str) -> Option<Self> {
        // Removes where and when it happened, which the caller reports.
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
    /// Returns why the cluster denies access. `None` if it does not, or is unavailable. Blocks for up to 5 s.
    pub fn refusal(&self) -> Option<Refusal> {
        let heard = Heard::default();
        let mut config = self.base();
        // Log messages about each handshake and certificate would precede the reason in the queue, and are taken one by
        // one.
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

    /// Does the same without blocking the caller.
    pub async fn why_refused(&self) -> Option<Refusal> {
        let client = self.clone();
        tokio::task::spawn_blocking(move || client.refusal()).await.ok().flatten()
    }
}

/// The errors reported for attempts to connect.
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
    /// Discards the message: the client that failed has already logged its own.
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
