//! A service moves from its own outbox table and relay to `belfry.submit`, as `docs/submit.md` describes, while it
//! continues to write.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use belfry_tests::servers::{Database, Kafka, KafkaRecord, shared_kafka, shared_postgres};
use belfry_tests::{Batch, BelfryProcess, belfry, eventually, minted_anew, results_ready};
use serde_json::Value;
use sqlx::{PgPool, Row};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use uuid::Uuid;

const GUIDE: &str = include_str!("../../../docs/submit.md");
const EVENTS: &str = "huleedu.ras.batch.results.ready.v1";
/// Number of writers, each with its own key.
const WRITERS: usize = 4;
/// Number of rows that the service's relay reads at once.
const BATCH: i64 = 20;

/// The way in which a writer publishes an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    OwnTable,
    Submit,
}

/// The service, which writes until it is stopped.
struct Service {
    pool: PgPool,
    /// Number of writers that run the new code.
    new_code: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    writers: JoinSet<Result<Vec<Uuid>>>,
    written: Arc<AtomicUsize>,
}

impl Service {
    async fn start(database: &Database, run: &str) -> Result<Self> {
        let pool = PgPool::connect(&database.url).await?;
        sqlx::raw_sql(
            "CREATE TABLE event_outbox (id uuid PRIMARY KEY, event_data jsonb NOT NULL, event_key text, \
             created_at timestamptz NOT NULL DEFAULT now(), published_at timestamptz)",
        )
        .execute(&pool)
        .await?;
        let (new_code, stop, written) = (Arc::<AtomicUsize>::default(), Arc::default(), Arc::default());
        let mut service = Self { pool, new_code, stop, writers: JoinSet::new(), written };
        for writer in 0..WRITERS {
            let key = format!("{run}-{writer}");
            let (pool, new_code) = (service.pool.clone(), service.new_code.clone());
            let (stop, written) = (service.stop.clone(), service.written.clone());
            service.writers.spawn(async move {
                let mut ids = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let way = if new_code.load(Ordering::Relaxed) > writer { Way::Submit } else { Way::OwnTable };
                    ids.push(write(&pool, &key, way).await?);
                    written.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..6))).await;
                }
                Ok(ids)
            });
        }
        Ok(service)
    }

    async fn goes_on(&self, count: usize) -> Result<()> {
        let wanted = self.written.load(Ordering::Relaxed) + count;
        let look = async || Ok(self.written.load(Ordering::Relaxed));
        eventually("the service continues", look, |written| *written >= wanted).await?;
        Ok(())
    }

    /// Stops the service. Returns the events of each key, in order.
    async fn stop(mut self, run: &str) -> Result<HashMap<String, Vec<Uuid>>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut by_key = HashMap::new();
        while let Some(ended) = self.writers.join_next().await {
            let ids = ended??;
            by_key.insert(ids.first().context("an event")?.to_string(), ids);
        }
        ensure!(by_key.len() == WRITERS, "{run}");
        Ok(by_key)
    }
}

async fn write(pool: &PgPool, key: &str, way: Way) -> Result<Uuid> {
    let event_id = Uuid::new_v4();
    let batch = Batch { event_id, batch_id: key.to_owned(), teacher: format!("teacher-of-{key}"), failed: 0 };
    let mut event = results_ready(&batch);
    let mut transaction = pool.begin().await?;
    match way {
        Way::OwnTable => {
            // The row's id counts; the relay generates another for the envelope anyway.
            event["event_id"] = Uuid::new_v4().to_string().into();
            sqlx::query("INSERT INTO event_outbox (id, event_data, event_key) VALUES ($1, $2::jsonb, $3)")
                .bind(event_id)
                .bind(event.to_string())
                .bind(key)
                .execute(&mut *transaction)
                .await?;
        }
        Way::Submit => {
            sqlx::query("SELECT belfry.submit($1, $2)")
                .bind(event.to_string())
                .bind(key)
                .execute(&mut *transaction)
                .await?;
        }
    }
    transaction.commit().await?;
    Ok(event_id)
}

/// The service's relay. For each attempt it creates a new envelope, with a new `event_id` and a new time; only the
/// header keeps the row's id. Some attempts fail after the record was sent. If it is stopped between sending and
/// marking, the rows that it has sent stay unmarked.
struct Relay {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<usize>>,
    /// Number of attempts after which a record is sent again.
    failed: Arc<AtomicUsize>,
}

impl Relay {
    fn start(pool: &PgPool, kafka: &'static Kafka) -> Self {
        let (stop, stopping) = watch::channel(false);
        let failed = Arc::<AtomicUsize>::default();
        let (pool, failing) = (pool.clone(), failed.clone());
        let task = tokio::spawn(async move {
            loop {
                let rows = sqlx::query(
                    "SELECT id, event_data::text FROM event_outbox WHERE published_at IS NULL ORDER BY created_at LIMIT $1",
                )
                .bind(BATCH)
                .fetch_all(&pool)
                .await?;
                let mut sent = Vec::new();
                for row in &rows {
                    let id: Uuid = row.try_get(0)?;
                    attempt(kafka, id, serde_json::from_str(row.try_get(1)?)?).await?;
                    if fastrand::u32(0..8) == 0 {
                        // The rows behind it wait for the next attempt.
                        failing.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    sent.push(id);
                }
                if *stopping.borrow() && !sent.is_empty() {
                    return Ok(sent.len());
                }
                sqlx::query("UPDATE event_outbox SET published_at = now() WHERE id = ANY($1)")
                    .bind(sent)
                    .execute(&pool)
                    .await?;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Self { stop, task, failed }
    }

    /// Stops the relay. Returns the number of rows that it has sent and not marked.
    async fn die(self) -> Result<usize> {
        self.stop.send_replace(true);
        self.task.await?
    }
}

async fn attempt(kafka: &Kafka, id: Uuid, event: Value) -> Result<()> {
    let event = minted_anew(event);
    let id = id.to_string();
    let key = event["data"]["batch_id"].as_str().map(str::as_bytes);
    let headers: [(&str, &[u8]); 2] = [("event_id", id.as_bytes()), ("event_type", EVENTS.as_bytes())];
    kafka.produce(EVENTS, key, &headers, Some(event.to_string().as_bytes())).await?;
    Ok(())
}

/// Returns the statements of the guide's third step.
fn hand_over() -> Result<String> {
    let begin = GUIDE.find("   BEGIN;\n   LOCK TABLE event_outbox").context("the guide's third step")?;
    let length = GUIDE[begin..].find("   COMMIT;").context("its end")?;
    let statements = &GUIDE[begin..begin + length + "   COMMIT;".len()];
    // With the changes that its second step describes for a relay that generates new ids.
    let changes = [
        (
            "(SELECT event_data, event_key",
            "(SELECT jsonb_set(event_data, '{event_id}', to_jsonb(id)) AS event_data, event_key",
        ),
        ("NEW.event_data::text", "jsonb_set(NEW.event_data, '{event_id}', to_jsonb(NEW.id))::text"),
    ];
    changes.iter().try_fold(statements.to_owned(), |statements, (before, after)| {
        ensure!(statements.contains(before), "the guide has no {before}");
        Ok(statements.replace(before, after))
    })
}

async fn start(
    directory: &TempDir,
    settings: &[(&'static str, String)],
    source: Option<&str>,
) -> Result<BelfryProcess> {
    let mut settings = settings.to_vec();
    settings.extend(source.map(|url| ("source.postgres", format!("[{{name=\"service\",url=\"{url}\"}}]"))));
    BelfryProcess::start_with(directory.path(), &settings).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_leaves_its_own_outbox_and_nothing_is_lost_turned_around_or_told_twice() -> Result<()> {
    let (kafka, server) = (shared_kafka().await?, shared_postgres().await?);
    let (store, database) = (server.create_database().await?, server.create_database().await?);
    let run = Uuid::new_v4().simple().to_string();
    let notifications = format!("{run}.notifications");
    kafka.create_topic(EVENTS, 4, &[]).await?;
    kafka.create_topic(&notifications, 4, &[]).await?;
    let directory = TempDir::new()?;
    let settings = [
        ("preset", "testing".to_owned()),
        ("store.url", store.url.clone()),
        ("kafka.brokers", kafka.bootstrap()),
        ("kafka.group", run.clone()),
        // Belfry also consumes the published events, and must accept each once.
        ("kafka.topics", format!("[\"{EVENTS}\"]")),
        ("kafka.start_at", "earliest".to_owned()),
        ("kafka.identity", format!("{{\"{EVENTS}\"=\"header\"}}")),
        ("notification.topic", notifications.clone()),
        ("sink.kafka.enabled", "true".to_owned()),
    ];
    let replica = start(&directory, &settings, None).await?;
    let service = Service::start(&database, &run).await?;
    let relay = Relay::start(&service.pool, kafka);
    service.goes_on(150).await?;
    let look = async || Ok(relay.failed.load(Ordering::Relaxed));
    eventually("the relay sends records again", look, |failed| *failed >= 10).await?;

    // 1. Install.
    let installed = belfry(&["migrate", "--submit-only", "--url", &database.url]).await?;
    ensure!(installed.code == Some(0), "{installed:?}");
    // 2. The relay ends, and not cleanly: it has sent rows that it has not marked.
    let unmarked = relay.die().await?;
    service.goes_on(50).await?;
    // 3. Hand over.
    sqlx::raw_sql(sqlx::AssertSqlSafe(hand_over()?)).execute(&service.pool).await?;
    service.goes_on(50).await?;
    // 4. Belfry reads there.
    replica.terminate().await?;
    let replica = start(&directory, &settings, Some(&database.url)).await?;
    service.goes_on(100).await?;
    // 5. New code alongside old, and then alone.
    service.new_code.store(WRITERS / 2, Ordering::Relaxed);
    service.goes_on(100).await?;
    service.new_code.store(WRITERS, Ordering::Relaxed);
    service.goes_on(50).await?;
    // 6. Drop what is no longer needed.
    sqlx::raw_sql("DROP TABLE event_outbox; DROP FUNCTION submit_outbox_row").execute(&service.pool).await?;
    service.goes_on(50).await?;

    let by_key = service.stop(&run).await?;
    let all: usize = by_key.values().map(Vec::len).sum();
    let ids = |records: &[KafkaRecord]| -> Vec<Uuid> {
        let header = |record: &KafkaRecord| record.header("event_id").and_then(|id| id.parse().ok());
        records.iter().filter_map(header).collect()
    };
    let look = async || Ok(ids(&kafka.read_topic(EVENTS).await?));
    let is_there = |seen: &Vec<Uuid>| by_key.values().flatten().all(|id| seen.contains(id));
    let seen = eventually("every event is published", look, is_there).await?;
    for (key, written) in &by_key {
        let mut first: Vec<Uuid> = Vec::new();
        seen.iter().filter(|id| written.contains(id)).for_each(|id| {
            if !first.contains(id) {
                first.push(*id);
            }
        });
        ensure!(first == *written, "the events of {key} are out of order");
    }
    let look = async || kafka.read_topic(&notifications).await;
    let notified = eventually("every event is notified", look, |records| records.len() >= all).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    ensure!(kafka.read_topic(&notifications).await?.len() == all, "notified twice");
    let mut sources = Vec::new();
    for record in &notified {
        let message: Value = serde_json::from_slice(record.payload.as_deref().context("a message")?)?;
        sources.push(message["metadata"]["belfry"]["source_event_id"].as_str().unwrap_or_default().to_owned());
    }
    sources.sort();
    sources.dedup();
    ensure!(sources.len() == all, "{} of {all} events were notified", sources.len());
    eprintln!("{all} events, {unmarked} of them sent and not marked, {} records", seen.len());
    replica.terminate().await
}
