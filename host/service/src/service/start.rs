use std::sync::Arc;
use std::time::Duration;

use belfry_model::MessageSettings;
use belfry_sandbox::{Executor, Sandbox};
use belfry_store::{Store, Writer, WriterSettings};
use tokio::sync::{Mutex, Semaphore, watch};

use super::listen::{Addresses, listen};
use super::parts::{Parts, State};
use super::phase::{Phase, Phases};
use super::{Service, ServiceSettings, StartError};
use crate::access::{Access, Denials, Tokens};
use crate::config::{Config, DeliveryMode, without_secrets};
use crate::delivery::{Relay, SinkHealth, SinkSettings};
use crate::heartbeat::Heartbeat;
use crate::ingest::kafka::{KafkaSource, SourceSettings, Stopped};
use crate::ingest::postgres::PostgresSource;
use crate::kafka::{Client, KafkaConfigError, TopicLimits};
use crate::pipeline::{Pipeline, Publishing, ShadowWorker};
use crate::redis::{self, Listener, PeerNotifier, PeerSignals};
use crate::releases::{self, Registry, RegistrySettings, TrustedKeys};
use crate::telemetry::Metrics;
use crate::{retention, telemetry};

/// Capacity of the writer's queue, in requests.
const WRITER_QUEUE: usize = 1024;
/// Capacity of the guest threads' queue, in calls. The limit on events in flight takes effect first.
const EXECUTOR_QUEUE: usize = 1 << 16;
/// Capacity of the queue for calls that no live event waits for: those of replays and reruns.
const BESIDE_QUEUE: usize = 1 << 10;

impl Service {
    /// Starts the store, the sandbox, the active releases, the writer and the sinks, and the listeners last.
    ///
    /// # Errors
    ///
    /// Returns an error if any of them cannot start.
    pub async fn start(settings: ServiceSettings) -> Result<Self, StartError> {
        let (parts, writer) = open(settings).await?;
        let phases = Phases::default();
        let sinks = start_sinks(&parts, &phases.sinks).await?;
        let redis = start_background(&parts, &sinks, writer.committed(), &phases.background);
        let (committed, write_failure) = (writer.committed(), writer.failure());
        let pipeline = pipeline(&parts, writer, sinks.topics);
        let sources = prepare_sources(&parts, &pipeline).await?;
        let in_flight = Arc::new(Semaphore::new(parts.config.ingest.max_in_flight));
        let state = State { committed, write_failure, sinks: sinks.health, redis, stopped: sources.stopped.clone() };
        let Addresses { http, ops } = match listen(&parts, pipeline, in_flight.clone(), state, &phases).await {
            Ok(addresses) => addresses,
            Err(error) => {
                sources.abandon().await;
                return Err(error);
            }
        };
        sources.start(&phases.intake);
        tracing::info!(%http, %ops, store = parts.store_address, "ready");
        Ok(Self { http_address: http, ops_address: ops, phases, store: parts.store, in_flight })
    }
}

/// Opens the store, loads the active releases and starts the writer.
async fn open(settings: ServiceSettings) -> Result<(Parts, Writer), StartError> {
    let ServiceSettings { config, default_projector, compiler } = settings;
    let metrics = telemetry::start_metrics();
    let tokens = config.http.tokens_file.as_deref().map(Tokens::read).transpose()?;
    let trusted = TrustedKeys::configured(&config.releases).map_err(StartError::Keys)?;
    let store_settings = config.store.settings()?;
    let store_address = without_secrets(&store_settings.url);
    let store = Store::open(&store_settings).await?;
    let sandbox = Sandbox::new(config.sandbox_settings(compiler))?;
    let redis = redis::Client::new(&config.redis)?;
    let subscribed = watch::Sender::new(false);
    let heartbeat = Heartbeat::start(store.clone(), subscribed.subscribe()).await?;
    let known_rollout = heartbeat.seen().borrow().beat.changes();
    let others = PeerSignals::default();
    let registry = Registry::open(RegistrySettings {
        store: store.clone(),
        sandbox,
        others: others.clone(),
        trusted,
        replay_within: config.releases.replay_within(),
        default: default_projector,
    })
    .await?;
    let denials = Denials::new(config.http.denials_per_minute);
    let access = Access::open(store.clone(), tokens, config.http.require_token, denials).await?;
    let writer = WriterSettings {
        group_entries: config.writer.group_entries,
        group_wait: Duration::from_millis(config.writer.group_wait_ms),
        queue: WRITER_QUEUE,
    };
    let writer = Writer::start(store.clone(), writer, heartbeat.log_end().clone());
    let parts = Parts {
        config,
        metrics,
        store,
        store_address,
        heartbeat,
        others,
        registry,
        access,
        redis,
        subscribed,
        known_rollout,
    };
    Ok((parts, writer))
}

/// The sinks of a service.
struct Sinks {
    /// The health of each enabled sink.
    health: Vec<(&'static str, watch::Receiver<SinkHealth>)>,
    /// The limits of the topics, if anything is published to Kafka.
    topics: Option<TopicLimits>,
}

/// Registers the enabled sinks, and starts their relays.
async fn start_sinks(parts: &Parts, phase: &Phase) -> Result<Sinks, StartError> {
    let Parts { config, store, heartbeat, others, .. } = parts;
    let kafka = kafka_client(config)?;
    let topics = kafka.as_ref().map(|(_, topics)| topics.clone());
    if let Some(topics) = &topics {
        topics.learn().await;
        phase.keep("topics", topics.clone(), TopicLimits::keep_up);
    }
    let mut all = Vec::new();
    for sink in enabled_sinks(config, kafka, parts.redis.as_ref()) {
        let health = watch::Sender::new(SinkHealth::UNTRIED);
        all.push((sink.name(), health.subscribe()));
        let relay = Relay {
            resume: match sink {
                SinkSettings::Kafka(..) => config.sink.kafka.resume,
                SinkSettings::Redis(_) => config.sink.redis.resume,
                SinkSettings::Stdout => config.sink.stdout.resume,
            },
            store: store.clone(),
            heartbeat: heartbeat.clone(),
            others: others.clone(),
            sink,
            stall: Duration::from_millis(config.delivery.stall_ms),
            longest_pause: Duration::from_millis(config.delivery.backoff_max_ms),
            health,
        };
        if relay.register().await? {
            phase.keep("relay", relay, Relay::run);
        }
    }
    Ok(Sinks { health: all, topics })
}

/// Returns the settings of all enabled sinks.
fn enabled_sinks(
    config: &Config,
    kafka: Option<(Client, TopicLimits)>,
    redis: Option<&redis::Client>,
) -> Vec<SinkSettings> {
    let mut sinks = Vec::new();
    if config.delivery.mode == DeliveryMode::Observe {
        tracing::info!("delivery.mode is observe: events are recorded and projected, but nothing is sent");
        return sinks;
    }
    if let Some(client) = redis.filter(|_| config.sink.redis.enabled) {
        sinks.push(SinkSettings::Redis(client.clone()));
    }
    sinks.extend(kafka.map(|(client, limits)| SinkSettings::Kafka(client, limits)));
    if config.sink.stdout.enabled {
        sinks.push(SinkSettings::Stdout);
    }
    sinks
}

/// Returns the Kafka client and the limits of its topics, or `None` if nothing is published to Kafka.
fn kafka_client(config: &Config) -> Result<Option<(Client, TopicLimits)>, StartError> {
    if config.delivery.mode == DeliveryMode::Observe || !config.sink.kafka.enabled {
        return Ok(None);
    }
    let client = Client::new(&config.kafka, config.replica.name.as_deref())?;
    let topics = TopicLimits::new(&client, &config.notification.topic).map_err(KafkaConfigError::from)?;
    Ok(Some((client, topics)))
}

/// Starts the tasks that no event waits for. Returns whether Redis is connected, if it is used.
fn start_background(
    parts: &Parts,
    sinks: &Sinks,
    committed: watch::Receiver<i64>,
    phase: &Phase,
) -> Option<watch::Receiver<bool>> {
    let Parts { config, store, heartbeat, registry, access, others, .. } = parts;
    phase.keep("metrics", parts.metrics.clone(), Metrics::keep_up);
    phase.keep("retention", (store.clone(), config.retention.clone()), |(store, retention), stopping| {
        retention::run(store, retention, stopping)
    });
    let followed = (registry.clone(), parts.known_rollout, heartbeat.seen());
    phase.keep("releases", followed, |(registry, known, seen), stopping| {
        releases::follow(registry, known, seen, stopping)
    });
    phase.keep("loading", registry.clone(), releases::keep_loaded);
    let supervised = (registry.clone(), store.clone(), heartbeat.owner());
    phase.keep("trials", supervised, |(registry, store, replica), stopping| {
        releases::trial::watch(registry, store, replica, stopping)
    });
    phase.keep("tokens", (access.clone(), heartbeat.seen()), |(access, seen), stopping| access.follow(seen, stopping));
    phase.keep("heartbeat", heartbeat.clone(), Heartbeat::run);
    // An embedded store has no other replicas.
    let client = parts.redis.clone().filter(|_| matches!(store, Store::Postgres(_)))?;
    let names: Vec<&'static str> = sinks.health.iter().map(|(sink, _)| *sink).collect();
    let notifier = (client.clone(), heartbeat.clone(), names.clone(), committed, others.clone());
    phase.keep("redis.announce", notifier, |(client, heartbeat, sinks, committed, others), stopping| {
        PeerNotifier::new(client, heartbeat, sinks, committed, &others).run(stopping)
    });
    let subscribed = parts.subscribed.clone();
    let listener = Listener { client, heartbeat: heartbeat.clone(), sinks: names, subscribed };
    phase.keep("redis.listen", listener, Listener::run);
    Some(parts.subscribed.subscribe())
}

fn pipeline(parts: &Parts, writer: Writer, topics: Option<TopicLimits>) -> Pipeline {
    let Parts { config, store, registry, .. } = parts;
    let messages = Arc::new(MessageSettings {
        topic: config.notification.topic.clone(),
        source_service: config.notification.source_service.clone(),
    });
    Pipeline {
        store: store.clone(),
        writer,
        registry: registry.clone(),
        executor: Executor::new(config.guest_threads(), EXECUTOR_QUEUE),
        // One thread more than replays use, for reruns.
        beside: Executor::beside(config.replay_threads() + 1, BESIDE_QUEUE),
        aside: ShadowWorker::start(messages.clone(), store.clone(), config.releases.recheck_percent),
        messages,
        publishing: Publishing {
            mode: config.delivery.mode,
            chosen: Arc::new(config.publish.topics.clone()),
            notifications: config.notification.topic.clone(),
            topics,
        },
    }
}

/// The sources of a service, which read nothing before the listeners accept connections.
struct Sources {
    kafka: Option<KafkaSource>,
    submitted: Vec<PostgresSource>,
    /// The Kafka partitions and topics that are not read until an operator intervenes.
    stopped: Stopped,
}

/// Checks and registers the configured sources.
async fn prepare_sources(parts: &Parts, pipeline: &Pipeline) -> Result<Sources, StartError> {
    let Parts { config, store, heartbeat, others, .. } = parts;
    let stopped = Stopped::default();
    let mut kafka = None;
    if config.reads_kafka() {
        let (store, heartbeat, pipeline) = (store.clone(), heartbeat.clone(), pipeline.clone());
        let (others, stopped) = (others.clone(), stopped.clone());
        let settings = SourceSettings { config, store, heartbeat, others, pipeline, stopped };
        kafka = Some(KafkaSource::prepare(settings).await?);
    }
    let submitted = PostgresSource::all(config, pipeline, heartbeat, others)?;
    for source in &submitted {
        source.register().await?;
    }
    Ok(Sources { kafka, submitted, stopped })
}

impl Sources {
    fn start(self, phase: &Phase) {
        if let Some(source) = self.kafka {
            phase.keep("source.kafka", Arc::new(Mutex::new(source)), |source, stopping| async move {
                source.lock().await.run(stopping).await;
            });
        }
        for source in self.submitted.into_iter().map(Arc::new) {
            phase.keep("source.postgres", source, |source, stopping| async move { source.run(stopping).await });
        }
    }

    /// Releases the name of this replica, so that another one can read under it at once.
    async fn abandon(self) {
        if let Some(source) = self.kafka {
            source.abandon().await;
        }
    }
}
