//! Checks that every entry of the log is on its topic, once in effect and in order. Each key is checked separately, as
//! consumers see it.
//!
//! The **ledger** holds the log's entries in a range, a few dozen bytes each. The **reader** scans the topics and marks in
//! the ledger the records that it finds. Whatever is left over on either side, or out of order, is a **finding**. The audit
//! does not guess: an entry that its topic may have deleted is not reported as missing.

mod finding;
mod ledger;
mod partitioner;
mod reader;
mod verdict;

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use belfry_store::{Store, StoreError, now_ms};
use rdkafka::admin::{AdminClient, AdminOptions, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;

pub use finding::{Finding, FindingKind, Report};

use crate::config::Config;
use crate::kafka::{Client, KafkaConfigError, Refusal, ScanError};
use ledger::Ledger;
use reader::Reader;

/// The sink that is audited.
const SINK: &str = "kafka";
/// Entries read from the log per query.
const PAGE: u32 = 5000;
/// Ids looked up per query.
const LOOKUP: usize = 1000;
/// Time limit for an answer from Kafka.
const ANSWER: Duration = Duration::from_secs(10);
/// Limit on the positions in a range, so that they fit into memory: about 1.5 GB.
const MAX_ENTRIES: i64 = 20_000_000;

/// One end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// This position, included.
    Position(i64),
    /// The entries recorded at this time, included; in milliseconds since 1970.
    Time(i64),
}

/// The scope of an audit.
#[derive(Clone, Debug, Default)]
pub struct AuditSettings {
    /// The beginning of the range; by default, the beginning of the log.
    pub from: Option<Bound>,
    /// The end of the range; by default, the end of the log.
    pub to: Option<Bound>,
    /// The only topic to audit; by default, all topics that the log names.
    pub topic: Option<String>,
}

/// The progress of an audit.
#[derive(Clone, Copy, Debug)]
pub enum Progress {
    /// Entries read from the log so far.
    Log(u64),
    /// Records read from the topics so far, and their approximate total.
    Topics(u64, u64),
}

/// Why an audit failed.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The log cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Kafka's clients cannot be created.
    #[error(transparent)]
    Config(#[from] KafkaConfigError),
    /// The topics cannot be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Authentication failed, or no encrypted connection can be established.
    #[error("Kafka: {0}")]
    Refused(Refusal),
    /// Nothing was ever sent.
    #[error(
        "nothing was ever sent to Kafka from this log: the sink kafka has no position; enable sink.kafka and start belfry"
    )]
    NoSink,
    /// The range does not fit into memory.
    #[error("{0} positions are too many at once; narrow the range with --from and --to")]
    TooMany(i64),
}

impl From<KafkaError> for AuditError {
    fn from(error: KafkaError) -> Self {
        Self::Scan(error.into())
    }
}

/// Compares the log with the topics.
pub async fn audit(
    config: &Config,
    store: &Store,
    settings: &AuditSettings,
    progress: impl Fn(Progress) + Send + 'static,
) -> Result<Report, AuditError> {
    let client = Client::new(&config.kafka, None)?;
    // Read before the topics: every entry up to this position must be on them.
    let reach = store.sink_reach(SINK).await?.ok_or(AuditError::NoSink)?;
    let (lowest, highest) = store.log_bounds().await?;
    let after = match settings.from {
        None => lowest - 1,
        Some(Bound::Position(position)) => position - 1,
        Some(Bound::Time(ms)) => store.first_position_since(ms).await?.map_or(highest, |position| position - 1),
    };
    let after = after.max(lowest - 1).max(0);
    let up_to = match settings.to {
        None => highest,
        Some(Bound::Position(position)) => position.min(highest),
        Some(Bound::Time(ms)) => store.first_position_since(ms + 1).await?.map_or(highest, |position| position - 1),
    };
    if up_to - after > MAX_ENTRIES {
        return Err(AuditError::TooMany(up_to - after));
    }
    let mut ledger = Ledger::new((up_to - after).max(0) as usize);
    let since_ms = load(store, &mut ledger, settings, after, up_to, &progress).await?;
    let mut topics: BTreeSet<String> = ledger.topics().map(str::to_owned).collect();
    topics.insert(settings.topic.clone().unwrap_or_else(|| config.notification.topic.clone()));
    let topics: Vec<String> = topics.into_iter().collect();
    let compacted = match compacted(&client, &topics).await {
        Err(AuditError::Scan(error)) => {
            return Err(client.why_refused().await.map_or(error.into(), AuditError::Refused));
        }
        compacted => compacted?,
    };
    let reader = Reader {
        client,
        topics,
        since_ms: settings.from.and(since_ms),
        our_source: config.notification.source_service.clone(),
    };
    let met = tokio::task::spawn_blocking(move || reader.read(ledger, &progress));
    let mut met = met.await.map_err(|_| KafkaError::Canceled)??;
    known_elsewhere(store, &mut met).await?;
    Ok(verdict::judge(met, &compacted, reach, after + 1, up_to))
}

/// Returns the topics that keep only the last record of each key.
async fn compacted(client: &Client, topics: &[String]) -> Result<HashSet<String>, AuditError> {
    let admin: AdminClient<DefaultClientContext> = client.base().create()?;
    let resources: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let options = AdminOptions::new().request_timeout(Some(ANSWER));
    let mut compacted = HashSet::new();
    for described in admin.describe_configs(&resources, &options).await?.into_iter().flatten() {
        let policy = described.get("cleanup.policy").and_then(|entry| entry.value.as_deref()).unwrap_or_default();
        if let OwnedResourceSpecifier::Topic(topic) = &described.specifier
            && policy.contains("compact")
        {
            compacted.insert(topic.clone());
        }
    }
    // Dropping the client waits until it has ended.
    tokio::task::spawn_blocking(move || drop(admin)).await.map_err(|_| KafkaError::Canceled)?;
    Ok(compacted)
}

/// Reads the log's range into the ledger. Returns when its first entry was recorded, in milliseconds since 1970.
async fn load(
    store: &Store,
    ledger: &mut Ledger,
    settings: &AuditSettings,
    after: i64,
    up_to: i64,
    progress: &impl Fn(Progress),
) -> Result<Option<i64>, AuditError> {
    let (mut position, mut since_ms) = (after, None);
    while position < up_to {
        let page = store.read_audit(SINK, position, up_to, PAGE, now_ms()).await?;
        let full = page.len() as u32 == PAGE;
        position = page.last().map_or(up_to, |entry| entry.position);
        since_ms = since_ms.or(page.first().map(|entry| entry.created_at_ms));
        let wanted = |topic: &str| settings.topic.as_deref().is_none_or(|only| only == topic);
        page.iter().filter(|entry| wanted(&entry.topic)).for_each(|entry| ledger.add(entry));
        progress(Progress::Log(ledger.len() as u64));
        if !full {
            break;
        }
    }
    ledger.sort();
    Ok(since_ms)
}

/// Marks the records from outside the range that are in the log, or were there and are still known.
async fn known_elsewhere(store: &Store, met: &mut reader::Met) -> Result<(), AuditError> {
    for strangers in met.strangers.chunks_mut(LOOKUP) {
        let ids: Vec<_> = strangers.iter().map(|stranger| stranger.event_id).collect();
        let known: BTreeSet<_> = store.taken_or_issued(&ids).await?.into_iter().collect();
        strangers.iter_mut().for_each(|stranger| stranger.known = known.contains(&stranger.event_id));
    }
    Ok(())
}
