//! Kafka → project → PostgreSQL → Kafka: a backlog on a topic, compared with inserting the same rows in the same groups
//! and producing the same notifications, and nothing else. Then the same backlog with two and three replicas.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use belfry_tests::BelfryProcess;
use rdkafka::producer::Producer;
use sqlx::{PgPool, Row};
use tempfile::TempDir;
use uuid::Uuid;

use crate::figures::{Figures, median, percent};
use crate::relay::{produce, producer};
use crate::servers::{Servers, TEACHERS, event_bytes};

const ROUNDS: usize = 3;
const REPLICAS: [usize; 3] = [1, 2, 3];
/// Time limit for a backlog.
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(crate) async fn measure(figures: &mut Figures) -> Result<()> {
    let events: u64 =
        std::env::var("BELFRY_BENCH_EVENTS").ok().and_then(|events| events.parse().ok()).unwrap_or(100_000);
    let servers = Servers::start().await?;
    let backlog = servers.topic().await?;
    fill_topic(&servers, &backlog, events).await?;
    let mut rates: [Vec<f64>; REPLICAS.len()] = Default::default();
    let mut bare = Vec::new();
    for round in 0..ROUNDS {
        for (replicas, rates) in REPLICAS.iter().zip(&mut rates) {
            let (url, pool) = servers.database().await?;
            let took = by_replicas(&servers, &url, &pool, &backlog, *replicas, events).await?;
            rates.push(events as f64 / took.as_secs_f64());
            if *replicas == 1 {
                let Bare { inserted, produced } = bare_loop(&servers, &pool, events).await?;
                bare.push(events as f64 / (inserted + produced).as_secs_f64());
                eprintln!("  bare: inserted in {inserted:.1?}, produced in {produced:.1?}");
            }
        }
        let of: Vec<String> = rates.iter().map(|rates| format!("{:.0}/s", rates[round])).collect();
        eprintln!("  round {}: {}; bare {:.0}/s", round + 1, of.join(", "), bare[round]);
    }
    let bare = median(&mut bare);
    for (replicas, rates) in REPLICAS.iter().zip(&mut rates) {
        let ours = median(rates);
        let what = match replicas {
            1 => format!("Kafka → rule → PostgreSQL → Kafka, backlog of {events}"),
            replicas => format!("the same with {replicas} replicas on this machine"),
        };
        let goal = if *replicas == 1 { "≥ 60 %" } else { "" };
        figures.add(&what, format!("{ours:.0} events/s"), format!("{} of {bare:.0}/s bare", percent(ours, bare)), goal);
    }
    Ok(())
}

/// Writes the backlog.
async fn fill_topic(servers: &Servers, topic: &str, events: u64) -> Result<()> {
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let producer = producer(&servers.kafka.bootstrap(), acknowledged.clone())?;
    for number in 0..events {
        let (key, payload) = (format!("teacher-{}", number % u64::from(TEACHERS)), event_bytes(number));
        produce(&producer, topic, &key, &payload).await?;
    }
    producer.flush(Duration::from_secs(60))?;
    let bytes = event_bytes(0).len();
    eprintln!("  {} events of {bytes} bytes are queued on the topic", acknowledged.load(Ordering::Relaxed));
    Ok(())
}

/// Returns the time from the first commit to the last acknowledgement, by the database's clock.
async fn by_replicas(
    servers: &Servers,
    url: &str,
    pool: &PgPool,
    backlog: &str,
    replicas: usize,
    events: u64,
) -> Result<Duration> {
    let notifications = servers.topic().await?;
    let group = format!("bench-{}", Uuid::new_v4());
    let directory = TempDir::new()?;
    let mut services = Vec::new();
    for number in 0..replicas {
        let own = directory.path().join(number.to_string());
        std::fs::create_dir(&own)?;
        let settings = [
            ("store.url", url.to_owned()),
            ("kafka.brokers", servers.kafka.bootstrap()),
            ("kafka.group", group.clone()),
            ("kafka.topics", format!("[\"{backlog}\"]")),
            ("kafka.start_at", "earliest".to_owned()),
            ("notification.topic", notifications.clone()),
            ("sink.kafka.enabled", "true".to_owned()),
            ("sandbox.cache_directory", directory.path().join("cache").display().to_string()),
            ("redis.url", servers.redis.url()),
        ];
        services.push(BelfryProcess::start_with(&own, &settings).await?);
    }
    let began = Instant::now();
    let done = "SELECT (SELECT coalesce(sum(next_offset), 0)::bigint FROM belfry.consumer_position) >= $1 \
                   AND (SELECT position FROM belfry.relay WHERE sink = 'kafka') >= (SELECT last_value FROM belfry.outbox_id)";
    while !sqlx::query_scalar::<_, bool>(done).bind(events as i64).fetch_one(pool).await? {
        ensure!(began.elapsed() < PATIENCE, "the backlog is not processed after {PATIENCE:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    for service in services {
        service.terminate().await?;
    }
    let entries: i64 = sqlx::query_scalar("SELECT count(*) FROM belfry.outbox").fetch_one(pool).await?;
    ensure!(entries as u64 == 2 * events, "{entries} entries of {events} events");
    let seconds: f64 = sqlx::query_scalar(
        "SELECT extract(epoch FROM (SELECT max(acked_at) FROM belfry.relay_checkpoint) \
                                 - (SELECT min(created_at) FROM belfry.outbox))::float8",
    )
    .fetch_one(pool)
    .await?;
    Ok(Duration::from_secs_f64(seconds))
}

struct Bare {
    inserted: Duration,
    produced: Duration,
}

/// A row of the log, as a service wrote it.
struct Entry {
    transaction: String,
    id: i64,
    event_id: Uuid,
    event_type: String,
    aggregate_type: String,
    aggregate_id: String,
    topic: Option<String>,
    event_key: String,
    payload: Vec<u8>,
    headers: Vec<u8>,
    source_event_id: Option<Uuid>,
    release_id: Option<i64>,
    projections: Option<Vec<u8>>,
}

/// Inserts the rows of a service into another database, in the same groups; then produces the same notifications.
async fn bare_loop(servers: &Servers, written: &PgPool, events: u64) -> Result<Bare> {
    let entries = read(written).await?;
    let (_, pool) = servers.database().await?;
    sqlx::query("SELECT belfry.extend_log(1000000, 2)").execute(&pool).await?;
    sqlx::query("INSERT INTO belfry.consumer_position VALUES ('bare', 'bare', 0, 0)").execute(&pool).await?;
    let topic = servers.topic().await?;
    let began = Instant::now();
    for group in entries.chunk_by(|one, other| one.transaction == other.transaction) {
        insert(&pool, group).await?;
    }
    let inserted = began.elapsed();

    let acknowledged = Arc::new(AtomicUsize::new(0));
    let producer = producer(&servers.kafka.bootstrap(), acknowledged.clone())?;
    let began = Instant::now();
    for entry in entries.iter().filter(|entry| entry.topic.is_some()) {
        produce(&producer, &topic, &entry.event_key, &entry.payload).await?;
    }
    producer.flush(Duration::from_secs(60))?;
    let produced = began.elapsed();
    let count = acknowledged.load(Ordering::Relaxed) as u64;
    if count != events {
        bail!("{count} notifications of {events} events were produced");
    }
    Ok(Bare { inserted, produced })
}

async fn read(pool: &PgPool) -> Result<Vec<Entry>> {
    let rows = sqlx::query(
        "SELECT xmin::text, id, event_id, event_type, aggregate_type, aggregate_id, topic, event_key, payload, headers, \
           source_event_id, release_id, projections FROM belfry.outbox ORDER BY id",
    )
    .fetch_all(pool)
    .await?;
    let entry = |row: &sqlx::postgres::PgRow| {
        Ok(Entry {
            transaction: row.try_get(0)?,
            id: row.try_get(1)?,
            event_id: row.try_get(2)?,
            event_type: row.try_get(3)?,
            aggregate_type: row.try_get(4)?,
            aggregate_id: row.try_get(5)?,
            topic: row.try_get(6)?,
            event_key: row.try_get(7)?,
            payload: row.try_get(8)?,
            headers: row.try_get(9)?,
            source_event_id: row.try_get(10)?,
            release_id: row.try_get(11)?,
            projections: row.try_get(12)?,
        })
    };
    rows.iter().map(entry).collect::<Result<_, sqlx::Error>>().context("the service's rows")
}

/// Inserts one group: the position, both tables of ids, the log.
async fn insert(pool: &PgPool, group: &[Entry]) -> Result<()> {
    let (notifications, events): (Vec<&Entry>, Vec<&Entry>) =
        group.iter().partition(|entry| entry.source_event_id.is_some());
    let mut taken: Vec<Uuid> = events.iter().map(|entry| entry.event_id).collect();
    let mut issued: Vec<Uuid> = notifications.iter().map(|entry| entry.event_id).collect();
    taken.sort_unstable();
    issued.sort_unstable();
    let hash = [7_u8; 32];
    let mut transaction = pool.begin().await?;
    sqlx::query("UPDATE belfry.consumer_position SET next_offset = next_offset + $1 WHERE consumer_group = 'bare'")
        .bind(events.len() as i64)
        .execute(&mut *transaction)
        .await?;
    sqlx::query("INSERT INTO belfry.inbox (event_id, content_hash) SELECT i, $2 FROM unnest($1::uuid[]) i")
        .bind(&taken)
        .bind(&hash[..])
        .execute(&mut *transaction)
        .await?;
    sqlx::query("INSERT INTO belfry.issued (notification_id) SELECT i FROM unnest($1::uuid[]) i")
        .bind(&issued)
        .execute(&mut *transaction)
        .await?;
    sqlx::query(
        "INSERT INTO belfry.outbox (id, event_id, event_type, aggregate_type, aggregate_id, topic, event_key, payload, \
           headers, source_event_id, release_id, projections) \
         SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], \
           $8::bytea[], $9::bytea[], $10::uuid[], $11::bigint[], $12::bytea[])",
    )
    .bind(group.iter().map(|entry| entry.id).collect::<Vec<_>>())
    .bind(group.iter().map(|entry| entry.event_id).collect::<Vec<_>>())
    .bind(group.iter().map(|entry| entry.event_type.as_str()).collect::<Vec<_>>())
    .bind(group.iter().map(|entry| entry.aggregate_type.as_str()).collect::<Vec<_>>())
    .bind(group.iter().map(|entry| entry.aggregate_id.as_str()).collect::<Vec<_>>())
    .bind(group.iter().map(|entry| entry.topic.as_deref()).collect::<Vec<_>>())
    .bind(group.iter().map(|entry| entry.event_key.as_str()).collect::<Vec<_>>())
    .bind(group.iter().map(|entry| entry.payload.as_slice()).collect::<Vec<_>>())
    .bind(group.iter().map(|entry| entry.headers.as_slice()).collect::<Vec<_>>())
    .bind(group.iter().map(|entry| entry.source_event_id).collect::<Vec<_>>())
    .bind(group.iter().map(|entry| entry.release_id).collect::<Vec<_>>())
    .bind(group.iter().map(|entry| entry.projections.as_deref()).collect::<Vec<_>>())
    .execute(&mut *transaction)
    .await?;
    Ok(transaction.commit().await?)
}
