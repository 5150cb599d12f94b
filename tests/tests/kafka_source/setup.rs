//! A separate topic, database and settings for each test.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use belfry_tests::servers::{Database, Kafka, shared_kafka, shared_postgres};
use belfry_tests::{Batch, BelfryProcess, Ended, belfry, results_ready};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use uuid::Uuid;

/// Time limit for a step.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Setup {
    pub(crate) directory: TempDir,
    pub(crate) kafka: &'static Kafka,
    /// The URL of the store.
    pub(crate) store: String,
    pub(crate) topic: String,
    pub(crate) group: String,
    pub(crate) partitions: i32,
}

impl Setup {
    /// Creates a separate database on the shared PostgreSQL server.
    pub(crate) async fn new(partitions: i32) -> Result<Self> {
        let database: Database = shared_postgres().await?.create_database().await?;
        Self::on(database.url, partitions).await
    }

    /// Uses an SQLite file.
    pub(crate) async fn embedded(partitions: i32) -> Result<Self> {
        let mut setup = Self::on(String::new(), partitions).await?;
        setup.store = format!("sqlite:{}", setup.directory.path().join("belfry.db").display());
        Ok(setup)
    }

    pub(crate) async fn on(store: String, partitions: i32) -> Result<Self> {
        let kafka = shared_kafka().await?;
        let name = Uuid::new_v4().simple().to_string();
        let (topic, group) = (format!("{name}.events.v1"), format!("group-{name}"));
        kafka.create_topic(&topic, partitions, &[]).await?;
        let directory = TempDir::new()?;
        // Kafka removes a killed replica from the group soon.
        std::fs::write(
            directory.path().join("belfry.toml"),
            "preset = \"testing\"\n[kafka.properties]\n\"session.timeout.ms\" = 2000\n\"heartbeat.interval.ms\" = 300\n\"statistics.interval.ms\" = 200\n",
        )?;
        Ok(Self { directory, kafka, store, topic, group, partitions })
    }

    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("store.url", self.store.clone()),
            ("kafka.brokers", self.kafka.bootstrap()),
            ("kafka.group", self.group.clone()),
            ("kafka.topics", format!("[\"{}\"]", self.topic)),
            ("kafka.start_at", "earliest".to_owned()),
        ]
    }

    pub(crate) async fn start(&self) -> Result<BelfryProcess> {
        self.start_with(&[]).await
    }

    /// Starts a service; `more` overrides its settings, and an empty value removes one.
    pub(crate) async fn start_with(&self, more: &[(&'static str, &str)]) -> Result<BelfryProcess> {
        let mut settings = self.settings();
        settings.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
        settings.extend(
            more.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (*name, (*value).to_owned())),
        );
        BelfryProcess::start_with(self.directory.path(), &settings).await
    }

    /// Runs the command with the same settings.
    pub(crate) async fn belfry(&self, arguments: &[&str]) -> Result<Ended> {
        let mut all: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        all.extend(["--config".to_owned(), self.directory.path().join("belfry.toml").display().to_string()]);
        all.extend(self.settings().iter().map(|(name, value)| format!("--set={name}={value}")));
        belfry(all).await
    }

    /// Writes an event as the platform does: keyed by its batch, with all headers. Returns its partition and offset.
    pub(crate) async fn produce(&self, event: &Value) -> Result<(i32, i64)> {
        self.produce_to(&self.topic, event).await
    }

    pub(crate) async fn produce_to(&self, topic: &str, event: &Value) -> Result<(i32, i64)> {
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let headers = [
            ("event_id", text("event_id")),
            ("event_type", text("event_type")),
            ("trace_id", text("correlation_id")),
            ("source_service", text("source_service")),
            ("schema_version", "1".to_owned()),
            ("occurred_at", text("event_timestamp")),
            ("content_type", "application/json".to_owned()),
        ];
        let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let key = event["data"]["batch_id"].as_str().map(str::as_bytes);
        self.kafka.produce(topic, key, &headers, Some(event.to_string().as_bytes())).await
    }

    /// Writes numbered events, many at once. The number of an event determines its partition.
    pub(crate) async fn produce_numbers(&self, numbers: impl Iterator<Item = u64>) -> Result<()> {
        let numbers: Vec<u64> = numbers.collect();
        for chunk in numbers.chunks(200) {
            let events: Vec<Value> = chunk.iter().map(|number| results_ready(&Batch::number(*number))).collect();
            futures_util::future::try_join_all(events.iter().map(|event| self.produce(event))).await?;
        }
        Ok(())
    }

    /// Returns the low and the high watermark of each partition.
    pub(crate) async fn watermarks(&self) -> Result<Vec<(i64, i64)>> {
        let (bootstrap, topic, partitions) = (self.kafka.direct(), self.topic.clone(), self.partitions);
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
            (0..partitions).map(|number| Ok(consumer.fetch_watermarks(&topic, number, PATIENCE)?)).collect()
        })
        .await?
    }

    /// Returns the group's committed offsets, as Kafka's own tools show them.
    pub(crate) async fn offsets(&self) -> Result<Vec<Offset>> {
        let (bootstrap, topic, group) = (self.kafka.direct(), self.topic.clone(), self.group.clone());
        let partitions = self.partitions;
        tokio::task::spawn_blocking(move || {
            let mut config = ClientConfig::new();
            let consumer: BaseConsumer = config.set("bootstrap.servers", bootstrap).set("group.id", group).create()?;
            let mut asked = TopicPartitionList::new();
            asked.add_partition_range(&topic, 0, partitions - 1);
            let committed = consumer.committed_offsets(asked, PATIENCE)?;
            Ok(committed.elements().iter().map(|element| element.offset()).collect())
        })
        .await?
    }

    /// Waits until all records of the topic are read.
    pub(crate) async fn all_is_read(&self) -> Result<()> {
        let high: Vec<i64> = self.watermarks().await?.into_iter().map(|(_, high)| high).collect();
        let read = async || Ok::<bool, anyhow::Error>(self.positions().await? == high);
        until(&format!("positions are {high:?}"), read).await.with_context(|| format!("of topic {}", self.topic))
    }

    pub(crate) async fn positions(&self) -> Result<Vec<i64>> {
        self.query(&format!(
            "SELECT next_offset FROM belfry.consumer_position WHERE topic = '{}' ORDER BY partition",
            self.topic
        ))
        .await
    }

    pub(crate) async fn query<T>(&self, statement: &str) -> Result<Vec<T>>
    where
        T: Send + Unpin + sqlx::Type<sqlx::Postgres> + for<'row> sqlx::Decode<'row, sqlx::Postgres>,
    {
        let mut connection = PgConnection::connect(&self.store).await?;
        let rows = sqlx::query_scalar(sqlx::AssertSqlSafe(statement.to_owned())).fetch_all(&mut connection).await;
        connection.close().await?;
        Ok(rows?)
    }

    pub(crate) async fn count(&self, what: &str) -> Result<i64> {
        let counted = self.query(&format!("SELECT count(*) FROM {what}")).await?;
        counted.first().copied().context("no count")
    }

    /// Checks that this many events are recorded, each once and with one notification, and nothing else.
    pub(crate) async fn each_is_recorded_once(&self, numbers: u64) -> Result<()> {
        let events = self.count("belfry.outbox WHERE topic IS NULL").await?;
        let different =
            self.query::<i64>("SELECT count(DISTINCT event_id) FROM belfry.outbox WHERE topic IS NULL").await?;
        let notified =
            self.query::<i64>("SELECT count(DISTINCT source_event_id) FROM belfry.outbox WHERE topic IS NOT NULL");
        let notified = notified.await?;
        let notifications = self.count("belfry.outbox WHERE topic IS NOT NULL").await?;
        let expected = i64::try_from(numbers)?;
        anyhow::ensure!(
            [events, different[0], notified[0], notifications].iter().all(|count| *count == expected),
            "{events} events, {different:?} different; {notifications} notifications, of {notified:?} events; expected {expected}"
        );
        Ok(())
    }
}

/// Waits until the condition holds. Errors of the check are retried, too.
pub(crate) async fn until(what: &str, is_so: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    let mut last = None;
    while began.elapsed() < PATIENCE {
        match is_so().await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    match last {
        Some(error) => Err(error.context(format!("not within {PATIENCE:?}: {what}"))),
        None => bail!("not within {PATIENCE:?}: {what}"),
    }
}

/// Returns the value of a metric of a process, or 0 if it has none. `line` is the name with its labels.
pub(crate) async fn metric(process: &BelfryProcess, line: &str) -> Result<f64> {
    let text = process.metrics().await?;
    let found = text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
    Ok(found.unwrap_or(0.0))
}
