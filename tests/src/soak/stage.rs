use std::path::{Path, PathBuf};

use anyhow::Result;
use tempfile::TempDir;

use crate::servers::{FaultProxy, Kafka, KafkaOptions, Lifetime, Postgres, PostgresOptions, Redis, RedisOptions};

/// The topic of the events that are posted.
pub(super) const EVENTS: &str = "huleedu.ras.batch.results.ready.v1";
/// PostgreSQL's `max_connections`: enough for all replicas, and few enough for a fault to use up.
pub(super) const CONNECTIONS: &str = "80";

/// The servers, and proxies in front of them.
pub struct Stage {
    /// The database server.
    pub postgres: Postgres,
    /// The proxy that the replicas connect to.
    pub postgres_proxy: FaultProxy,
    /// The broker.
    pub kafka: Kafka,
    /// The proxy that the replicas connect to.
    pub kafka_proxy: FaultProxy,
    /// The server that wakes relays.
    pub redis: Redis,
    /// The proxy that the replicas connect to.
    pub redis_proxy: FaultProxy,
    cache: PathBuf,
}

impl Stage {
    /// Starts all servers.
    ///
    /// # Errors
    /// Returns an error if one is missing or does not start.
    pub async fn start() -> Result<Self> {
        let (kafka_path, postgres_path, redis_path) = (kept("kafka")?, kept("postgres")?, kept("redis")?);
        let lifetime = |path: &Path| Lifetime::OursWithDirectory(path.to_owned());
        let (port, advertised) = (FaultProxy::free_port()?, FaultProxy::free_port()?);
        let behind = KafkaOptions {
            port: Some(port),
            advertised: Some(advertised),
            lifetime: lifetime(&kafka_path),
            ..Default::default()
        };
        let settings = [("max_connections", CONNECTIONS), ("wal_keep_size", "256MB")];
        let small = PostgresOptions { settings: &settings, lifetime: lifetime(&postgres_path), ..Default::default() };
        let plain = RedisOptions { lifetime: lifetime(&redis_path), ..Default::default() };
        let (kafka, postgres, redis) = tokio::try_join!(
            Kafka::start_with(&kafka_path, behind),
            Postgres::start_with(&postgres_path, small),
            Redis::start_with(&redis_path, plain),
        )?;
        let kafka_proxy = FaultProxy::start_at(advertised, port).await?;
        let postgres_proxy = FaultProxy::start(postgres.port()).await?;
        let redis_proxy = FaultProxy::start(redis.port()).await?;
        kafka.create_topic(EVENTS, 4, &[]).await?;
        Ok(Self { postgres, postgres_proxy, kafka, kafka_proxy, redis, redis_proxy, cache: redis_path.join("cache") })
    }

    /// Ends all faults of the proxies.
    ///
    /// # Errors
    /// Returns an error if one cannot listen again.
    pub async fn heal(&self) -> Result<()> {
        self.postgres_proxy.heal().await?;
        self.kafka_proxy.heal().await?;
        self.redis_proxy.heal().await
    }

    /// Returns the directory where replicas keep compiled rules.
    pub(super) fn cache(&self) -> &Path {
        &self.cache
    }
}

/// Creates a directory that is removed with its server: a stage that a test process shares is never dropped.
fn kept(name: &str) -> Result<PathBuf> {
    Ok(TempDir::with_prefix(format!("belfry-{name}-"))?.keep())
}
