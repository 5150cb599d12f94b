//! The relay alone: from a full log to Kafka, compared with a bare loop that reads the same rows and produces them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use belfry_tests::BelfryProcess;
use futures_util::TryStreamExt;
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use sqlx::{PgPool, Row};
use tempfile::TempDir;

use crate::figures::{Figures, median, percent};
use crate::servers::{Servers, fill_log, relay_position};

const ROUNDS: usize = 3;
/// Rows per read, and unacknowledged rows, of the bare loop: the values with which it was fastest.
const BARE_PAGE: i64 = 500;
const BARE_WINDOW: usize = 8 * 500;

pub(crate) async fn measure(figures: &mut Figures) -> Result<()> {
    let rows: i64 = std::env::var("BELFRY_BENCH_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(1_000_000);
    let servers = Servers::start().await?;
    let (url, pool) = servers.database().await?;
    let topic = servers.topic().await?;
    fill_log(&pool, &topic, rows).await?;
    let (mut ours, mut bare, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    // One run to warm up what both use.
    bare_loop(&pool, &servers.kafka.bootstrap(), rows.min(200_000)).await?;
    for round in 0..ROUNDS {
        bare.push(rate(rows, bare_loop(&pool, &servers.kafka.bootstrap(), rows).await?));
        let Run { took, last_to_first } = relay(&servers, &url, &pool, rows).await?;
        ours.push(rate(rows, took));
        ends.push(last_to_first);
        eprintln!("  round {}: {:.0}/s, bare {:.0}/s", round + 1, ours[round], bare[round]);
    }
    let (ours, bare) = (median(&mut ours), median(&mut bare));
    figures.add(
        &format!("relay alone, {rows} rows"),
        format!("{ours:.0} entries/s"),
        format!("{} of {bare:.0}/s bare", percent(ours, bare)),
        "≥ 60 %",
    );
    figures.add(
        "speed of its last tenth, relative to its first",
        format!("{:.2}", median(&mut ends)),
        "",
        "0.8 to 1.2",
    );
    Ok(())
}

fn rate(rows: i64, took: Duration) -> f64 {
    rows as f64 / took.as_secs_f64()
}

struct Run {
    took: Duration,
    /// Speed of the last tenth, relative to that of the first.
    last_to_first: f64,
}

/// Runs the relay from the log's beginning to its end.
async fn relay(servers: &Servers, url: &str, pool: &PgPool, rows: i64) -> Result<Run> {
    sqlx::query(
        "INSERT INTO belfry.relay (sink, position) VALUES ('kafka', 0) \
         ON CONFLICT (sink) DO UPDATE SET position = 0, lease_until = '-infinity'",
    )
    .execute(pool)
    .await?;
    sqlx::query("TRUNCATE belfry.relay_checkpoint").execute(pool).await?;
    let directory = TempDir::new()?;
    let settings = [
        ("store.url", url.to_owned()),
        ("kafka.brokers", servers.kafka.bootstrap()),
        ("kafka.topics", "[]".to_owned()),
        ("sink.kafka.enabled", "true".to_owned()),
    ];
    let service = BelfryProcess::start_with(directory.path(), &settings).await?;
    let began = Instant::now();
    let (mut first, mut last) = (None, None);
    loop {
        let position = relay_position(pool).await?;
        if first.is_none() && position >= rows / 10 {
            first = Some((began.elapsed(), position));
        }
        if last.is_none() && position >= rows - rows / 10 {
            last = Some((began.elapsed(), position));
        }
        if position >= rows {
            break;
        }
        ensure!(began.elapsed() < Duration::from_secs(300), "the relay is at {position} of {rows}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed();
    service.terminate().await?;
    let speed = |count: i64, time: Duration| count as f64 / time.as_secs_f64().max(0.001);
    let ratio = match (first, last) {
        (Some((first_took, count)), Some((last_began, at))) => {
            speed(rows - at, took.saturating_sub(last_began)) / speed(count, first_took)
        }
        _ => 1.0,
    };
    Ok(Run { took, last_to_first: ratio })
}

/// A producer context that counts acknowledgements.
pub(crate) struct Acks(Arc<AtomicUsize>);

impl ClientContext for Acks {}

impl ProducerContext for Acks {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Returns the relay's producer settings.
pub(crate) fn producer_config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in [
        ("bootstrap.servers", bootstrap),
        ("enable.idempotence", "true"),
        ("acks", "all"),
        ("linger.ms", "1"),
        ("compression.type", "none"),
        ("partitioner", "murmur2_random"),
    ] {
        config.set(name, value);
    }
    config
}

/// Creates a producer that counts acknowledgements.
pub(crate) fn producer(bootstrap: &str, acknowledged: Arc<AtomicUsize>) -> Result<ThreadedProducer<Acks>> {
    Ok(producer_config(bootstrap).create_with_context(Acks(acknowledged))?)
}

/// Hands a record to the producer once its queue has room.
pub(crate) async fn produce(producer: &ThreadedProducer<Acks>, topic: &str, key: &str, payload: &[u8]) -> Result<()> {
    while let Err((error, _)) = producer.send(BaseRecord::to(topic).key(key).payload(payload)) {
        ensure!(error == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), "{error}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Reads by key, produces, and stores the position after every ten acknowledged windows; nothing else. Rows go to the
/// same topic.
async fn bare_loop(pool: &PgPool, bootstrap: &str, rows: i64) -> Result<Duration> {
    sqlx::query("CREATE TABLE IF NOT EXISTS bare_position (position bigint NOT NULL)").execute(pool).await?;
    sqlx::query("TRUNCATE bare_position").execute(pool).await?;
    sqlx::query("INSERT INTO bare_position VALUES (0)").execute(pool).await?;
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let producer = producer(bootstrap, acknowledged.clone())?;
    let began = Instant::now();
    let (mut position, mut sent, mut noted) = (0_i64, 0_usize, 0_usize);
    while position < rows {
        let mut page =
            sqlx::query("SELECT id, topic, event_key, payload FROM belfry.outbox WHERE id > $1 ORDER BY id LIMIT $2")
                .bind(position)
                .bind(BARE_PAGE)
                .fetch(pool);
        while let Some(row) = page.try_next().await? {
            position = row.try_get(0)?;
            let (topic, key, payload): (&str, &str, &[u8]) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            produce(&producer, topic, key, payload).await?;
            sent += 1;
        }
        while sent - acknowledged.load(Ordering::Relaxed) > BARE_WINDOW {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        if acknowledged.load(Ordering::Relaxed) - noted > 10 * BARE_WINDOW {
            noted = acknowledged.load(Ordering::Relaxed);
            sqlx::query("UPDATE bare_position SET position = $1").bind(position).execute(pool).await?;
        }
    }
    producer.flush(Duration::from_secs(60))?;
    sqlx::query("UPDATE bare_position SET position = $1").bind(position).execute(pool).await?;
    Ok(began.elapsed())
}
