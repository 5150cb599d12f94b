//! The servers that a measurement runs on, and the rows to measure with.

use anyhow::{Context, Result};
use belfry_tests::servers::{Kafka, Postgres, Redis};
use belfry_tests::{Batch, results_ready};
use serde_json::json;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, Row};
use tempfile::TempDir;
use uuid::Uuid;

/// Number of teachers in the measured data, whose ids are keys that spread over the partitions.
pub(crate) const TEACHERS: u32 = 200;
/// Number of partitions, as in the platform's topics.
pub(crate) const PARTITIONS: i32 = 4;

/// PostgreSQL, Kafka and Redis for one measurement.
pub(crate) struct Servers {
    pub(crate) postgres: Postgres,
    pub(crate) kafka: Kafka,
    pub(crate) redis: Redis,
    _directory: TempDir,
}

impl Servers {
    pub(crate) async fn start() -> Result<Self> {
        let directory = TempDir::new()?;
        let settings = [
            ("shared_buffers", "1GB"),
            ("max_wal_size", "8GB"),
            ("checkpoint_timeout", "30min"),
            ("track_commit_timestamp", "on"),
        ];
        let postgres = Postgres::start(&directory.path().join("postgres"), &settings).await?;
        let kafka = Kafka::start(&directory.path().join("kafka")).await?;
        let redis = Redis::start(&directory.path().join("redis")).await?;
        Ok(Self { postgres, kafka, redis, _directory: directory })
    }

    /// Creates a database with Belfry's schema, and a connection pool for it.
    pub(crate) async fn database(&self) -> Result<(String, PgPool)> {
        let url = self.postgres.create_database().await?.url;
        belfry_store::Store::open(&belfry_store::StoreSettings::new(url.as_str())).await?.close().await;
        let pool = PgPoolOptions::new().max_connections(4).connect(&url).await?;
        Ok((url, pool))
    }

    pub(crate) async fn topic(&self) -> Result<String> {
        let topic = format!("bench-{}", Uuid::new_v4());
        self.kafka.create_topic(&topic, PARTITIONS, &[]).await?;
        Ok(topic)
    }
}

/// Returns the id of the event with this number.
pub(crate) fn event_id(number: u64) -> Uuid {
    Batch::number(number).event_id
}

/// Returns an event of about 1.5 KB, as large as the platform's: a batch that went through every phase.
pub(crate) fn event_bytes(number: u64) -> Vec<u8> {
    let mut batch = Batch::number(number);
    batch.teacher = format!("teacher-{}", number % u64::from(TEACHERS));
    let mut event = results_ready(&batch);
    for phase in
        ["spellcheck", "nlp", "language_quality", "cj_assessment", "ai_feedback", "content", "student_matching"]
    {
        event["data"]["phase_results"][phase] = json!({
            "phase_name": phase, "status": "completed_successfully", "completed_count": 10, "failed_count": 0,
            "processing_time_seconds": 12.5
        });
    }
    event.to_string().into_bytes()
}

/// Fills the log with notifications of about 1.5 KB.
pub(crate) async fn fill_log(pool: &PgPool, topic: &str, rows: i64) -> Result<()> {
    sqlx::query("SELECT belfry.extend_log(1000000, $1)").bind((rows / 1_000_000) as i32 + 2).execute(pool).await?;
    sqlx::query(
        "INSERT INTO belfry.outbox (id, event_id, event_type, aggregate_type, aggregate_id, topic, event_key, payload, \
           headers, source_event_id, release_id) \
         SELECT nextval('belfry.outbox_id'), gen_random_uuid(), $1, 'teacher_notification', key, $1, key, \
           convert_to(json_build_object('event_id', gen_random_uuid(), 'number', n, 'key', key, \
             'data', repeat(md5(n::text), 40))::text, 'UTF8'), \
           convert_to(json_build_object('event_id', gen_random_uuid(), 'event_type', $1, 'trace_id', gen_random_uuid(), \
             'source_service', 'result_aggregator_service', 'schema_version', '1', 'occurred_at', '2026-03-02T09:15:01Z', \
             'content_type', 'application/json')::text, 'UTF8'), gen_random_uuid(), 1 \
         FROM (SELECT n, 'teacher-' || n % $2 AS key FROM generate_series(1, $3) n) numbered ORDER BY n",
    )
    .bind(topic)
    .bind(i64::from(TEACHERS))
    .bind(rows)
    .execute(pool)
    .await
    .context("cannot fill the log")?;
    // Writing back the inserted rows must not be part of the measurement.
    sqlx::query("VACUUM (ANALYZE) belfry.outbox").execute(pool).await?;
    sqlx::query("CHECKPOINT").execute(pool).await?;
    Ok(())
}

/// Returns the position of the sink `kafka`.
pub(crate) async fn relay_position(pool: &PgPool) -> Result<i64> {
    let row = sqlx::query("SELECT position FROM belfry.relay WHERE sink = 'kafka'").fetch_one(pool).await?;
    Ok(row.try_get(0)?)
}
