use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use belfry_model::MessageSettings;
use belfry_sandbox::{Executor, Sandbox, SandboxError};
use belfry_store::{OpenError, Store, StoreError, Writer, WriterSettings};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::access::{Access, Denials};
use crate::config::{self, Config, DeliveryMode, Http, SecretError, Tokens, TokensError, without_secrets};
use crate::delivery::feed::Feeds;
use crate::delivery::{OutletSettings, Relay, SinkHealth};
use crate::heartbeat::Heartbeat;
use crate::http::listener::{Budget, ListenerLimits, Times, serve};
use crate::http::{self, Api, ApiParts, Ops, ReadinessCache};
use crate::ingest::kafka::{KafkaSource, SourceError, SourceSettings, Stopped};
use crate::ingest::postgres::{self, PostgresSource};
use crate::kafka::{Client, KafkaConfigError, TopicLimits};
use crate::pipeline::{Pipeline, Publishing, ShadowWorker};
use crate::redis::{self, Listener, PeerNotifier, PeerSignals, RedisConfigError};
use crate::redrive::DeadLetters;
use crate::releases::{self, Registry, RegistrySettings, ReleaseError};
use crate::replay::Replays;
use crate::task::keep;
use crate::telemetry::Metrics;
use crate::{descriptors, retention, telemetry};

/// Capacity of the writer's queue, in requests.
const WRITER_QUEUE: usize = 1024;
/// Capacity of the guest threads' queue, in calls. The limit on events in flight takes effect first.
const EXECUTOR_QUEUE: usize = 1 << 16;
/// Capacity of the queue for calls that no live event waits for: those of replays and reruns.
const BESIDE_QUEUE: usize = 1 << 10;
/// Memory for request bodies on the operators' listener, where no route takes a body.
const OPS_BODY_BYTES: usize = 1 << 20;
/// Time limit of each step of a shutdown: for the requests, then for each source and each sink.
const DRAIN: Duration = Duration::from_secs(10);

/// The settings that a service starts with.
#[derive(Clone, Debug)]
pub struct ServiceSettings {
    /// The configuration.
    pub config: Config,
    /// The bundled component, which is activated in an empty store.
    pub default_projector: &'static [u8],
    /// The program that compiles components when called like `belfry compile-component`.
    pub compiler: PathBuf,
}

/// An error that prevents a service from starting. No port is bound then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] StoreError),
    /// The sandbox cannot start.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The configured trusted keys are invalid.
    #[error("{0}")]
    Keys(String),
    /// A release that is rolled out cannot be loaded.
    #[error("cannot load an active release: {0}")]
    Release(#[from] ReleaseError),
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The Kafka clients cannot be created.
    #[error(transparent)]
    Kafka(#[from] KafkaConfigError),
    /// Events cannot be read from Kafka.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The Redis client cannot be created.
    #[error(transparent)]
    Redis(#[from] RedisConfigError),
    /// Events cannot be read from the database of another service.
    #[error(transparent)]
    Submitted(#[from] postgres::SourceError),
    /// The tokens file cannot be read.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// The service cannot listen on an address.
    #[error("{name}: cannot listen on {address}: {error}; stop the process that uses it, or choose another address")]
    Listen {
        /// The setting that holds the address.
        name: &'static str,
        /// The address.
        address: SocketAddr,
        /// The operating system's error.
        error: io::Error,
    },
}

/// A running service.
pub struct Service {
    http_address: SocketAddr,
    ops_address: SocketAddr,
    stop: watch::Sender<bool>,
    finish: watch::Sender<bool>,
    rest: watch::Sender<bool>,
    http: JoinHandle<()>,
    ops: JoinHandle<()>,
    sources: Vec<JoinHandle<()>>,
    sinks: Vec<JoinHandle<()>>,
    /// The tasks that run until all sinks have ended: the heartbeat, and the Redis publisher and listener.
    resting: Vec<JoinHandle<()>>,
    store: Store,
    in_flight: Arc<Semaphore>,
}

impl Service {
    /// Starts the store, the sandbox, the active releases, the writer and the sinks, and the listeners last.
    ///
    /// # Errors
    ///
    /// Returns an error if any of them cannot start.
    pub async fn start(settings: ServiceSettings) -> Result<Self, StartError> {
        let ServiceSettings { config, default_projector, compiler } = settings;
        let metrics = telemetry::start_metrics();
        let tokens = config.http.tokens_file.as_deref().map(Tokens::read).transpose()?;
        let store_settings = config.store.settings()?;
        let store = Store::open(&store_settings).await?;
        let sandbox = Sandbox::new(config.sandbox_settings(compiler))?;
        let redis = redis::Client::new(&config.redis)?;
        let subscribed = watch::Sender::new(false);
        let heartbeat = Heartbeat::start(store.clone(), subscribed.subscribe()).await?;
        let known_rollout = heartbeat.seen().borrow().beat.changes();
        let others = PeerSignals::default();
        let trusted = config.trusted_keys().map_err(StartError::Keys)?;
        let settings = RegistrySettings {
            store: store.clone(),
            sandbox,
            others: others.clone(),
            trusted,
            replay_within: config.releases.replay_within(),
            default: default_projector,
        };
        let registry = Registry::open(settings).await?;
        let denials = Denials::new(config.http.denials_per_minute);
        let access = Access::open(store.clone(), tokens, config.http.require_token, denials).await?;
        let writer = Writer::start(store.clone(), writer_settings(&config), heartbeat.log_end().clone());
        let (stop, stopping) = watch::channel(false);
        let (finish, finishing) = watch::channel(false);
        let feeds = Feeds::new(store.clone(), registry.clone(), heartbeat.log_end().subscribe(), stopping.clone());
        let mut sinks = Vec::new();
        let mut health = Vec::new();
        let kafka = kafka_outlet(&config)?;
        let topics = kafka.as_ref().map(|(_, topics)| topics.clone());
        if let Some(topics) = &topics {
            topics.learn().await;
            let (topics, finishing) = (topics.clone(), finishing.clone());
            sinks.push(keep("topics", move || topics.clone().keep_up(finishing.clone())));
        }
        for outlet in outlets(&config, kafka, redis.as_ref()) {
            let sink = outlet.sink();
            let state = watch::Sender::new(SinkHealth::UNTRIED);
            health.push((sink, state.subscribe()));
            let resume = match sink {
                "kafka" => config.sink.kafka.resume,
                "redis" => config.sink.redis.resume,
                _ => config.sink.stdout.resume,
            };
            let relay = Relay {
                resume,
                store: store.clone(),
                heartbeat: heartbeat.clone(),
                others: others.clone(),
                outlet,
                stall: Duration::from_millis(config.delivery.stall_ms),
                longest_pause: Duration::from_millis(config.delivery.backoff_max_ms),
                health: state,
            };
            if relay.register().await? {
                let finishing = finishing.clone();
                sinks.push(keep("relay", move || relay.clone().run(finishing.clone())));
            }
        }
        let enabled: Vec<&'static str> = health.iter().map(|(sink, _)| *sink).collect();
        sinks.extend(upkeep(Upkeep {
            store: store.clone(),
            metrics: metrics.clone(),
            retention: config.retention.clone(),
            registry: registry.clone(),
            known_rollout,
            access: access.clone(),
            heartbeat: heartbeat.clone(),
            finishing: finishing.clone(),
        }));
        // The heartbeat outlives the relays: it renews their leases while they finish sending.
        let (rest, rests) = watch::channel(false);
        let (beating, resting) = (heartbeat.clone(), rests.clone());
        let mut resting = vec![keep("heartbeat", move || beating.clone().run(resting.clone()))];
        // An embedded store has no other replicas.
        let redis = redis.filter(|_| matches!(store, Store::Postgres(_)));
        let is_subscribed = redis.is_some().then(|| subscribed.subscribe());
        if let Some(client) = redis {
            let told_of = (client.clone(), heartbeat.clone(), enabled.clone(), writer.committed(), others.clone());
            let rested = rests.clone();
            resting.push(keep("redis.tell", move || {
                let (client, heartbeat, sinks, committed, others) = told_of.clone();
                PeerNotifier::new(client, heartbeat, sinks, committed, &others).run(rested.clone())
            }));
            let heartbeat = heartbeat.clone();
            resting.push(keep("redis.listen", move || {
                let (client, heartbeat, subscribed) = (client.clone(), heartbeat.clone(), subscribed.clone());
                Listener { client, heartbeat, sinks: enabled.clone(), subscribed }.run(rests.clone())
            }));
        }
        let (committed, write_failure) = (writer.committed(), writer.failure());
        let in_flight = Arc::new(Semaphore::new(config.ingest.max_in_flight));
        let messages = Arc::new(message_settings(&config));
        let pipeline = Pipeline {
            store: store.clone(),
            writer,
            registry: registry.clone(),
            executor: Executor::new(config.guest_threads(), EXECUTOR_QUEUE),
            // One thread more than replays use, for reruns.
            beside: Executor::beside(replay_threads(&config) + 1, BESIDE_QUEUE),
            aside: ShadowWorker::start(messages.clone(), store.clone(), config.releases.recheck_percent),
            messages,
            publishing: Publishing {
                mode: config.delivery.mode,
                chosen: Arc::new(config.publish.topics.clone()),
                notifications: config.notification.topic.clone(),
                topics,
            },
        };
        let mut prepared = None;
        let stopped = Stopped::default();
        if config.reads_kafka() {
            let (store, heartbeat, pipeline) = (store.clone(), heartbeat.clone(), pipeline.clone());
            let (others, stopped) = (others.clone(), stopped.clone());
            let settings = SourceSettings { config: &config, store, heartbeat, others, pipeline, stopped };
            prepared = Some(KafkaSource::prepare(settings).await?);
        }
        let submitted = PostgresSource::all(&config, &pipeline, &heartbeat, &others)?;
        for source in &submitted {
            source.register().await?;
        }
        let [http_bounds, ops_bounds] = listener_bounds(&config);
        let api = Api::new(ApiParts {
            replays: Replays::new(pipeline.clone(), replay_threads(&config)),
            dead_letters: DeadLetters { pipeline: pipeline.clone(), heartbeat: heartbeat.clone() },
            pipeline,
            store: store.clone(),
            registry,
            feeds,
            feed_places: Arc::new(Semaphore::new(most_feeds(&config, http_bounds.connections))),
            heartbeat: heartbeat.clone(),
            others,
            in_flight: in_flight.clone(),
            max_in_flight: config.ingest.max_in_flight,
            max_event_bytes: config.ingest.max_event_bytes,
            access,
        });
        let ops = Ops {
            looked: ReadinessCache::new(store.clone()),
            metrics,
            stopping: stopping.clone(),
            heartbeat,
            committed,
            write_failure,
            health,
            redis: is_subscribed,
            stopped,
        };
        let ops = http::ops(ops);
        let listening = async {
            let budget = Budget::new(config.http.body_memory_mib << 20);
            let http = listen(config.http.listen, http_bounds, http::api(api), budget, stopping.clone()).await?;
            // A separate budget: clients of the API must not affect monitoring.
            let budget = Budget::new(OPS_BODY_BYTES);
            Ok((http, listen(config.ops.listen, ops_bounds, ops, budget, finishing).await?))
        };
        let ((http_address, http), (ops_address, ops)) = match listening.await {
            Ok(listening) => listening,
            Err(error) => {
                if let Some(source) = prepared {
                    source.abandon().await;
                }
                return Err(error);
            }
        };
        let mut sources = Vec::new();
        if let Some(source) = prepared {
            let (source, stopping) = (Arc::new(Mutex::new(source)), stopping.clone());
            sources.push(keep("source.kafka", move || {
                let (source, stopping) = (source.clone(), stopping.clone());
                async move { source.lock().await.run(stopping).await }
            }));
        }
        for source in submitted.into_iter().map(Arc::new) {
            let stopping = stopping.clone();
            sources.push(keep("source.postgres", move || {
                let (source, stopping) = (source.clone(), stopping.clone());
                async move { source.run(stopping).await }
            }));
        }
        tracing::info!(http = %http_address, ops = %ops_address, store = without_secrets(&store_settings.url), "ready");
        Ok(Self { http_address, ops_address, stop, finish, rest, http, ops, sources, sinks, resting, store, in_flight })
    }

    /// Returns the address of the API's listener.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Returns the address of the operators' listener.
    pub fn ops_address(&self) -> SocketAddr {
        self.ops_address
    }

    /// Stops the service in this order:
    ///
    /// 1. Stop accepting requests, end the feeds, and stop reading from the sources.
    /// 2. Answer the requests in flight, and commit the events that were read.
    /// 3. Let the sinks send the log up to its end.
    /// 4. Close the store.
    ///
    /// If this is interrupted, no acknowledged event is lost.
    pub async fn stop(self) {
        tracing::info!("stopping");
        self.stop.send_replace(true);
        self.in_flight.close();
        let (mut http, mut ops) = (self.http, self.ops);
        if timeout(DRAIN, &mut http).await.is_err() {
            http.abort();
            tracing::warn!(seconds = DRAIN.as_secs(), "aborting requests that did not finish in time");
        }
        for source in self.sources {
            if timeout(DRAIN, source).await.is_err() {
                tracing::warn!("a source did not commit its events in time; they will be read again");
            }
        }
        self.finish.send_replace(true);
        for sink in self.sinks {
            let _ = timeout(DRAIN, sink).await;
        }
        self.rest.send_replace(true);
        for task in self.resting {
            let _ = timeout(DRAIN, task).await;
        }
        if timeout(DRAIN, &mut ops).await.is_err() {
            ops.abort();
        }
        let _ = timeout(DRAIN, self.store.close()).await;
        tracing::info!("stopped");
    }
}

/// The dependencies of the background tasks that no event waits for.
struct Upkeep {
    store: Store,
    metrics: Metrics,
    retention: config::Retention,
    registry: Registry,
    known_rollout: (i64, i64),
    access: Access,
    heartbeat: Heartbeat,
    finishing: watch::Receiver<bool>,
}

fn upkeep(of: Upkeep) -> [JoinHandle<()>; 6] {
    let Upkeep { store, metrics, retention, registry, known_rollout, access, heartbeat, finishing } = of;
    let (owner, stop) = (heartbeat.owner(), finishing.clone());
    let metrics = keep("metrics", move || metrics.clone().keep_up(stop.clone()));
    let (retiring, stop) = (store.clone(), finishing.clone());
    let retention = keep("retention", move || retention::run(retiring.clone(), retention.clone(), stop.clone()));
    let (followed, seen, stop) = (registry.clone(), heartbeat.seen(), finishing.clone());
    let releases =
        keep("releases", move || releases::follow(followed.clone(), known_rollout, seen.clone(), stop.clone()));
    let (missing, stop) = (registry.clone(), finishing.clone());
    let loading = keep("loading", move || releases::keep_loaded(missing.clone(), stop.clone()));
    let stop = finishing.clone();
    let trials = keep("trials", move || releases::trial::watch(registry.clone(), store.clone(), owner, stop.clone()));
    let seen = heartbeat.seen();
    let tokens = keep("tokens", move || access.clone().follow(seen.clone(), finishing.clone()));
    [metrics, retention, releases, loading, trials, tokens]
}

/// Returns the outlets of all enabled sinks.
fn outlets(
    config: &Config,
    kafka: Option<(Client, TopicLimits)>,
    redis: Option<&redis::Client>,
) -> Vec<OutletSettings> {
    let mut outlets = Vec::new();
    if config.delivery.mode == DeliveryMode::Observe {
        tracing::info!("delivery.mode is observe: events are recorded and projected, but nothing is sent");
        return outlets;
    }
    if let Some(client) = redis.filter(|_| config.sink.redis.enabled) {
        outlets.push(OutletSettings::Redis(client.clone()));
    }
    outlets.extend(kafka.map(|(client, limits)| OutletSettings::Kafka(client, limits)));
    if config.sink.stdout.enabled {
        outlets.push(OutletSettings::Stdout);
    }
    outlets
}

/// Returns the Kafka client and the limits of its topics, or `None` if nothing is published to Kafka.
fn kafka_outlet(config: &Config) -> Result<Option<(Client, TopicLimits)>, StartError> {
    if config.delivery.mode == DeliveryMode::Observe || !config.sink.kafka.enabled {
        return Ok(None);
    }
    let client = Client::new(&config.kafka, config.replica.name.as_deref())?;
    let topics = TopicLimits::new(&client, &config.notification.topic).map_err(KafkaConfigError::from)?;
    Ok(Some((client, topics)))
}

/// Replays get half as many threads as live events, which have priority.
fn replay_threads(config: &Config) -> usize {
    config.guest_threads().div_ceil(2)
}

fn writer_settings(config: &Config) -> WriterSettings {
    WriterSettings {
        group_entries: config.writer.group_entries,
        group_wait: Duration::from_millis(config.writer.group_wait_ms),
        queue: WRITER_QUEUE,
    }
}

fn message_settings(config: &Config) -> MessageSettings {
    MessageSettings {
        topic: config.notification.topic.clone(),
        source_service: config.notification.source_service.clone(),
    }
}

/// The limits of the two listeners. Connections are limited by the available file descriptors too.
fn listener_bounds(config: &Config) -> [ListenerLimits; 2] {
    let ms = Duration::from_millis;
    let Http { head_timeout_ms, body_timeout_ms, read_timeout_ms, idle_timeout_ms, .. } = config.http;
    let times = Times {
        head: ms(head_timeout_ms),
        body: ms(body_timeout_ms),
        read: ms(read_timeout_ms),
        idle: ms(idle_timeout_ms),
    };
    let connections = descriptors::allow(config.http.max_connections, config.ops.max_connections);
    [
        ListenerLimits { listener: "http", connections, times },
        ListenerLimits { listener: "ops", connections: config.ops.max_connections, times },
    ]
}

/// Feeds may stay open indefinitely, so a quarter of the connections is reserved for other requests.
fn most_feeds(config: &Config, connections: usize) -> usize {
    config.http.max_feeds.min(connections * 3 / 4).max(1)
}

async fn listen(
    address: SocketAddr,
    bounds: ListenerLimits,
    router: Router,
    budget: Arc<Budget>,
    stopping: watch::Receiver<bool>,
) -> Result<(SocketAddr, JoinHandle<()>), StartError> {
    let name = if bounds.listener == "http" { "http.listen" } else { "ops.listen" };
    let failed = |error| StartError::Listen { name, address, error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((address, tokio::spawn(serve(listener, router, bounds, budget, stopping))))
}
