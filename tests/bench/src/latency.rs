//! Light load: the time from a notification's commit to its receipt by a consumer, and the time from the post of its
//! event; compared with a bare commit followed by a bare produce.
//!
//! The time of the commit is the server's (`track_commit_timestamp`), taken just before the commit is written to disk;
//! the time of receipt is that of a librdkafka consumer. So this figure includes the disk's part of the commit and the
//! way from the broker to the consumer, and is an upper bound of commit → acknowledgement. The response to the sender
//! is sent when the commit is on disk: a figure measured from there overestimates only by the way to the consumer.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use belfry_tests::BelfryProcess;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use sqlx::{PgPool, Row};
use tempfile::TempDir;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::figures::{Figures, millis, percentile};
use crate::http::Connection;
use crate::relay::producer_config;
use crate::servers::{PARTITIONS, Servers, event_bytes, event_id};

const ROUNDS: usize = 3;
/// Events per second, and number of events posted in a round.
const RATES: [(u32, u64); 2] = [(20, 300), (200, 2000)];
const SILENCE: Duration = Duration::from_secs(60);
/// Time limit for an arrival.
const PATIENCE: Duration = Duration::from_secs(10);

/// Quantiles of one kind of times.
#[derive(Clone, Copy)]
struct Quantiles {
    p50: Duration,
    p99: Duration,
}

impl Quantiles {
    fn of(times: &mut [Duration]) -> Self {
        Self { p50: percentile(times, 50), p99: percentile(times, 99) }
    }

    /// Returns the medians of several rounds.
    fn middle(rounds: &[Self]) -> Self {
        let of = |time: fn(&Self) -> Duration| percentile(&mut rounds.iter().map(time).collect::<Vec<_>>(), 50);
        Self { p50: of(|round| round.p50), p99: of(|round| round.p99) }
    }
}

/// The results of a round.
struct Light {
    from_commit: Quantiles,
    from_answer: Quantiles,
    from_post: Quantiles,
}

pub(crate) async fn measure(figures: &mut Figures) -> Result<()> {
    let servers = Servers::start().await?;
    let (url, pool) = servers.database().await?;
    let topic = servers.topic().await?;
    let directory = TempDir::new()?;
    let settings = [
        ("store.url", url.clone()),
        ("kafka.brokers", servers.kafka.bootstrap()),
        ("kafka.topics", "[]".to_owned()),
        ("notification.topic", topic.clone()),
        ("sink.kafka.enabled", "true".to_owned()),
        ("redis.url", servers.redis.url()),
    ];
    servers.kafka.create_topic("huleedu.ras.batch.results.ready.v1", PARTITIONS, &[]).await?;
    let service = BelfryProcess::start_with(directory.path(), &settings).await?;
    let mut watched = Watched { pool, arrivals: consume(&servers.kafka.bootstrap(), &topic)?, posted: 0 };
    let mut connection = Connection::open(service.http_address()).await?;
    // Warm up everything once.
    watched.round(&mut connection, 200, 400).await?;
    bare(&servers, &watched.pool, 200, 400).await?;
    for (rate, events) in RATES {
        let (mut commits, mut answers, mut posts, mut floors) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let light = watched.round(&mut connection, rate, events).await?;
            let floor = bare(&servers, &watched.pool, rate, events).await?;
            eprintln!(
                "  {rate}/s, round {}: acknowledgement → receipt p50 {}, commit → receipt p50 {} p99 {}, bare p50 {} p99 {}",
                round + 1,
                millis(light.from_answer.p50),
                millis(light.from_commit.p50),
                millis(light.from_commit.p99),
                millis(floor.p50),
                millis(floor.p99)
            );
            commits.push(light.from_commit);
            answers.push(light.from_answer);
            posts.push(light.from_post);
            floors.push(floor);
        }
        let (commit, answer, post) =
            (Quantiles::middle(&commits), Quantiles::middle(&answers), Quantiles::middle(&posts));
        let floor = Quantiles::middle(&floors);
        let both = |quantiles: Quantiles| format!("p50 {}, p99 {}", millis(quantiles.p50), millis(quantiles.p99));
        let times = commit.p99.as_secs_f64() / floor.p99.as_secs_f64();
        figures.add(
            &format!("{rate} events/s, acknowledgement → receipt by a consumer"),
            both(answer),
            "",
            "p50 ≤ 2 ms",
        );
        figures.add(
            &format!("{rate} events/s, commit → receipt by a consumer"),
            both(commit),
            format!("p99 {times:.1} × bare commit + produce: {}", both(floor)),
            "p99 ≤ 2 ×",
        );
        figures.add(&format!("{rate} events/s, post → receipt by a consumer"), both(post), "", "");
    }
    let mut first = Vec::new();
    for _ in 0..ROUNDS {
        tokio::time::sleep(SILENCE).await;
        first.push(watched.round(&mut connection, 1, 1).await?.from_commit.p50);
    }
    service.terminate().await?;
    let slowest = first.iter().max().copied().unwrap_or_default();
    figures.add(
        "the first event after 60 s of silence",
        format!("{}, the slowest {}", millis(percentile(&mut first, 50)), millis(slowest)),
        "commit → receipt by a consumer",
        "no slower",
    );
    Ok(())
}

/// A service under load, and the arrivals of its notifications at a consumer.
struct Watched {
    pool: PgPool,
    arrivals: mpsc::UnboundedReceiver<(Uuid, SystemTime)>,
    posted: u64,
}

impl Watched {
    async fn round(&mut self, connection: &mut Connection, rate: u32, events: u64) -> Result<Light> {
        let mut posted = HashMap::new();
        let began = Instant::now();
        for number in 0..events {
            tokio::time::sleep_until((began + Duration::from_secs(number) / rate).into()).await;
            let (id, event) = (event_id(self.posted), event_bytes(self.posted));
            self.posted += 1;
            let before = SystemTime::now();
            let (status, answer) = connection.post("application/json", &event).await?;
            posted.insert(id, (before, SystemTime::now()));
            ensure!(status == 201, "{status}: {}", String::from_utf8_lossy(&answer));
        }
        let mut arrived = HashMap::new();
        while arrived.len() < posted.len() {
            let arrival = tokio::time::timeout(PATIENCE, self.arrivals.recv()).await;
            let (source, at) = arrival.context("a notification did not arrive")?.context("the consumer ended")?;
            arrived.entry(source).or_insert(at);
        }
        let ids: Vec<Uuid> = posted.keys().copied().collect();
        let rows = sqlx::query(
            "SELECT source_event_id, (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint \
               FROM belfry.outbox WHERE source_event_id = ANY($1)",
        )
        .bind(&ids)
        .fetch_all(&self.pool)
        .await?;
        let (mut from_commit, mut from_answer, mut from_post) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            let (source, micros): (Uuid, i64) = (row.try_get(0)?, row.try_get(1)?);
            let at = *arrived.get(&source).context("a notification of another round")?;
            let committed = UNIX_EPOCH + Duration::from_micros(micros.unsigned_abs());
            from_commit.push(at.duration_since(committed).unwrap_or_default());
            let (before, answered) = posted[&source];
            // The notification may arrive before the response.
            from_answer.push(at.duration_since(answered).unwrap_or_default());
            from_post.push(at.duration_since(before).unwrap_or_default());
        }
        ensure!(from_commit.len() == posted.len(), "{} notifications of {} events", from_commit.len(), posted.len());
        Ok(Light {
            from_commit: Quantiles::of(&mut from_commit),
            from_answer: Quantiles::of(&mut from_answer),
            from_post: Quantiles::of(&mut from_post),
        })
    }
}

/// Runs a consumer on a separate thread, which reports each notification's source and time of receipt.
fn consume(bootstrap: &str, topic: &str) -> Result<mpsc::UnboundedReceiver<(Uuid, SystemTime)>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", format!("bench-{}", Uuid::new_v4()))
        .set("enable.auto.commit", "false")
        .create()?;
    let mut partitions = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        partitions.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&partitions)?;
    let (tell, arrivals) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while !tell.is_closed() {
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) else { continue };
            let at = SystemTime::now();
            let Some(source) = message.payload().and_then(source_of) else { continue };
            if tell.send((source, at)).is_err() {
                return;
            }
        }
    });
    Ok(arrivals)
}

fn source_of(payload: &[u8]) -> Option<Uuid> {
    let value: serde_json::Value = serde_json::from_slice(payload).ok()?;
    value["metadata"]["belfry"]["source_event_id"].as_str()?.parse().ok()
}

/// Commits one row, then produces one record and waits for its acknowledgement, `events` times at this rate. Returns
/// the sums of both quantiles.
async fn bare(servers: &Servers, pool: &PgPool, rate: u32, events: u64) -> Result<Quantiles> {
    sqlx::query("CREATE TABLE IF NOT EXISTS bare (id bigserial PRIMARY KEY, payload bytea NOT NULL)")
        .execute(pool)
        .await?;
    let topic = servers.topic().await?;
    let producer: FutureProducer = producer_config(&servers.kafka.bootstrap()).set("linger.ms", "0").create()?;
    let (mut commits, mut acks) = (Vec::new(), Vec::new());
    let began = Instant::now();
    for number in 0..events {
        tokio::time::sleep_until((began + Duration::from_secs(number) / rate).into()).await;
        let event = event_bytes(number);
        let started = Instant::now();
        sqlx::query("INSERT INTO bare (payload) VALUES ($1)").bind(&event).execute(pool).await?;
        commits.push(started.elapsed());
        let started = Instant::now();
        let record = FutureRecord::to(&topic).key("key").payload(&event);
        producer.send(record, PATIENCE).await.map_err(|(error, _)| error)?;
        acks.push(started.elapsed());
    }
    let (commit, ack) = (Quantiles::of(&mut commits), Quantiles::of(&mut acks));
    Ok(Quantiles { p50: commit.p50 + ack.p50, p99: commit.p99 + ack.p99 })
}
