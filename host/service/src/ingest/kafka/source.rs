//! The task that supervises the sessions.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use belfry_store::Store;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::check::{Checked, SourceError, check};
use super::identity::Identities;
use super::operate::source_row;
use super::positions::{Positions, Unplaced};
use super::record::RecordSettings;
use super::replica::ReplicaName;
use super::session::{Session, SessionSettings};
use super::stopped_partitions::Stopped;
use crate::backoff::Backoff;
use crate::config::{Config, SourceTopics};
use crate::heartbeat::{Heartbeat, Seen};
use crate::kafka::{Client, KafkaConfigError};
use crate::pipeline::Pipeline;
use crate::redis::PeerSignals;

/// The interval between checks for additional topics.
const LOOK: Duration = Duration::from_secs(1);
/// How soon topics that could not be read are retried.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// The interval between checks for recreated topics.
const LOOK_AT_IDS: Duration = Duration::from_secs(5);
/// The delay before a failed consumer is replaced by a new one.
const BEGIN_AGAIN: Duration = Duration::from_secs(1);

/// What the source needs from the service.
pub(crate) struct SourceSettings<'a> {
    pub(crate) config: &'a Config,
    pub(crate) store: Store,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) others: PeerSignals,
    pub(crate) pipeline: Pipeline,
    /// Shows which partitions and topics are not read.
    pub(crate) stopped: Stopped,
}

/// Reads events from Kafka.
pub(crate) struct KafkaSource {
    settings: SessionSettings,
    heartbeat: Heartbeat,
    wanted: SourceTopics,
    /// Topics that exist and have positions.
    ready: BTreeSet<String>,
    /// Topics that are wanted and could not be read at the last check.
    missing: BTreeSet<String>,
    try_again_at: Instant,
    looked_at_ids: Instant,
    name: Option<ReplicaName>,
}

/// Why a session ended.
enum End {
    Stopping,
    NameLost,
    Failed(String),
}

impl KafkaSource {
    /// Checks that topics can be read, and takes the replica's name. Reads nothing yet.
    pub(crate) async fn prepare(settings: SourceSettings<'_>) -> Result<Self, SourceError> {
        let SourceSettings { config, store, heartbeat, others, pipeline, stopped } = settings;
        let instance = config.replica.name.clone();
        let start_at = config.kafka.start_at.as_deref().and_then(|text| text.parse().ok());
        let client = Client::new(&config.kafka, instance.as_deref())?;
        let positions = Arc::new(Positions {
            store: store.clone(),
            cluster: client.cluster().map_err(KafkaConfigError::from)?,
            client,
            group: config.kafka.group.clone(),
            start_at,
            behind: config.kafka.behind.clone(),
            runtime: Handle::current(),
            newborn: Mutex::default(),
            seen_ids: Mutex::default(),
        });
        // A database file belongs to one process, so names in it need no guard.
        let guarded = instance.clone().filter(|_| matches!(store, Store::Postgres(_)));
        let name = guarded.map(|name| ReplicaName::new(store, heartbeat.clone(), others, name));
        let settings = SessionSettings {
            pipeline,
            positions,
            stopped,
            behind: config.kafka.behind.clone(),
            instance,
            records: RecordSettings {
                identities: Identities::new(&config.kafka),
                max_bytes: config.ingest.max_event_bytes,
            },
            backoff: Backoff::up_to(Duration::from_millis(config.delivery.backoff_max_ms)),
        };
        let mut source = Self {
            settings,
            heartbeat,
            wanted: config.kafka.topics.clone(),
            ready: BTreeSet::new(),
            missing: BTreeSet::new(),
            try_again_at: Instant::now(),
            looked_at_ids: Instant::now(),
            name,
        };
        let wanted = source.wanted();
        source.begin(wanted).await?;
        if let Some(name) = &mut source.name {
            name.claim().await?;
        }
        Ok(source)
    }

    /// Releases the replica's name, also if the service does not start after all.
    pub(crate) async fn abandon(&self) {
        if let Some(name) = &self.name {
            name.give_back().await;
        }
    }

    /// Reads until the service stops. Returns when all runs handed over are committed.
    pub(crate) async fn run(&mut self, stopping: CancellationToken) {
        loop {
            let end = match Session::start(&self.settings, self.topics()) {
                Ok(mut session) => {
                    let end = self.watch(&mut session, &stopping).await;
                    session.end().await;
                    end
                }
                Err(error) => End::Failed(error.to_string()),
            };
            let begin_again = async {
                match end {
                    End::Stopping => false,
                    End::NameLost => {
                        if let Some(name) = &mut self.name {
                            name.regain().await;
                        }
                        true
                    }
                    End::Failed(error) => {
                        tracing::error!(error, "the consumer failed; starting a new one");
                        tokio::time::sleep(BEGIN_AGAIN).await;
                        true
                    }
                }
            };
            let go_on = tokio::select! {
                go_on = begin_again => go_on,
                () = stopping.cancelled() => false,
            };
            if !go_on {
                return self.abandon().await;
            }
        }
    }

    async fn watch(&mut self, session: &mut Session, stopping: &CancellationToken) -> End {
        let mut seen = self.heartbeat.seen();
        let mut look = tokio::time::interval(LOOK);
        let truth =
            |seen: &Seen, row: &str| (seen.beat.incarnation.clone(), seen.lease(row).map(|(state, _)| state.epoch));
        let row = source_row(&self.settings.positions.group);
        let mut before = truth(&seen.borrow_and_update(), &row);
        loop {
            tokio::select! {
                () = stopping.cancelled() => return End::Stopping,
                error = session.failed() => return End::Failed(error),
                _ = seen.changed() => {
                    let now = seen.borrow_and_update().clone();
                    let found = truth(&now, &row);
                    if found != before {
                        tracing::info!("positions were set, or the database was replaced; reading the positions again");
                        before = found;
                        session.forget();
                    }
                    if let Some(name) = &mut self.name
                        && !name.keep(&now).await
                    {
                        return End::NameLost;
                    }
                }
                _ = look.tick() => {
                    let look = async {
                        self.look_for_topics().await;
                        self.look_for_new_ids().await
                    };
                    tokio::select! {
                        made_anew = look => {
                            made_anew.iter().for_each(|topic| session.forget_topic(topic));
                            session.follow(self.topics());
                        }
                        () = stopping.cancelled() => return End::Stopping,
                    }
                }
            }
        }
    }

    /// Returns the wanted topics that can be read now.
    fn topics(&self) -> Vec<String> {
        self.wanted().intersection(&self.ready).cloned().collect()
    }

    fn wanted(&self) -> BTreeSet<String> {
        match &self.wanted {
            SourceTopics::These(topics) => topics.iter().cloned().collect(),
            SourceTopics::Subscribed(_) => {
                self.settings.pipeline.registry.serving().event_types().map(str::to_owned).collect()
            }
        }
    }

    /// Checks for additional topics: an activated release may subscribe to new ones, or missing topics may have been
    /// created.
    async fn look_for_topics(&mut self) {
        let missing: BTreeSet<String> = self.wanted().difference(&self.ready).cloned().collect();
        self.settings.stopped.only_topics(&missing);
        if missing == self.missing && self.try_again_at > Instant::now() {
            return;
        }
        self.try_again_at = Instant::now() + TRY_AGAIN;
        self.missing = missing.clone();
        // One by one: a topic that cannot be read must not block the others.
        for topic in missing {
            match self.check(BTreeSet::from([topic.clone()])).await {
                Ok(checked) => self.take(checked),
                Err(error) => self.leave_out(&topic, &error),
            }
        }
    }

    /// Checks all topics for the first time. A group that has never read anything requires a configured start. Otherwise, a
    /// topic that was added without one is left out, and the others are read.
    async fn begin(&mut self, wanted: BTreeSet<String>) -> Result<(), SourceError> {
        let mut checked = self.check(wanted).await?;
        if !checked.refused.is_empty() {
            let positions = self.settings.positions.clone();
            let never_read = tokio::task::spawn_blocking(move || positions.never_read());
            if never_read.await.map_err(|_| SourceError::CutOff)?? {
                return Err(checked.refused.swap_remove(0).1.into());
            }
        }
        self.take(checked);
        Ok(())
    }

    fn take(&mut self, Checked { ready, refused }: Checked) {
        self.ready.extend(ready);
        for (topic, error) in refused {
            self.leave_out(&topic, &error.into());
        }
    }

    fn leave_out(&self, topic: &str, error: &SourceError) {
        let reason = error.to_string();
        if self.settings.stopped.topic(topic, &reason) {
            tracing::error!(reason, "a topic is not read");
        }
    }

    /// Returns topics that were recreated under the same name. Their partitions are stopped once their positions are read
    /// again.
    async fn look_for_new_ids(&mut self) -> Vec<String> {
        if self.looked_at_ids.elapsed() < LOOK_AT_IDS {
            return Vec::new();
        }
        self.looked_at_ids = Instant::now();
        let (positions, read) = (self.settings.positions.clone(), self.topics().into_iter().collect());
        match tokio::task::spawn_blocking(move || positions.made_anew(&read)).await {
            Ok(Ok(made_anew)) => made_anew,
            // Kafka's availability is checked elsewhere.
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }

    async fn check(&self, wanted: BTreeSet<String>) -> Result<Checked, SourceError> {
        let positions = self.settings.positions.clone();
        let checked = tokio::task::spawn_blocking(move || check(&positions, &wanted));
        checked.await.map_err(|_| SourceError::CutOff)?
    }
}

impl SourceError {
    /// Returns whether the configuration is the cause.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Config(_) | Self::Unplaced(Unplaced::NoStart { .. }))
    }

    /// Returns whether the start is refused until an operator decides.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Twin(_))
    }
}
