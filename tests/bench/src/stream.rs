//! NDJSON → project → commit → feed, compared with writing the same rows to SQLite with the same library in groups of
//! the same size.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use belfry_tests::{Batch, BelfryProcess, results_ready};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection as _, QueryBuilder, Row, Sqlite, SqliteConnection};
use tempfile::TempDir;

use crate::figures::{Figures, percent, percentile};
use crate::http::Connection;

const EVENTS: u64 = 20_000;
const LINES: usize = 5000;
const ROUNDS: usize = 3;
/// Events per transaction: with one notification each, the 500 entries that the service commits at once.
const GROUP: usize = 250;
const ROWS: usize = 64;

pub(crate) async fn measure(figures: &mut Figures) -> Result<()> {
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let directory = TempDir::new()?;
        ours.push(through_the_service(&directory, round as u64).await?);
        raw.push(bare(&directory).await?);
    }
    let rate = |times: &mut Vec<Duration>| EVENTS as f64 / percentile(times, 50).as_secs_f64();
    let (ours, raw) = (rate(&mut ours), rate(&mut raw));
    figures.add(
        "NDJSON → commit → feed",
        format!("{ours:.0} events/s"),
        format!("{} of {raw:.0}/s, the same rows written bare", percent(ours, raw)),
        "≥ 50 %",
    );
    Ok(())
}

async fn through_the_service(directory: &TempDir, round: u64) -> Result<Duration> {
    let bodies: Vec<Vec<u8>> = (0..EVENTS)
        .map(|number| format!("{}\n", results_ready(&Batch::number(round * EVENTS + number))).into_bytes())
        .collect::<Vec<_>>()
        .chunks(LINES)
        .map(<[Vec<u8>]>::concat)
        .collect();
    let service = BelfryProcess::start(directory.path()).await?;
    let address = service.http_address().to_owned();
    let feed = tokio::spawn(Connection::open(&address).await?.listen(EVENTS as usize));
    let mut connection = Connection::open(&address).await?;
    let began = Instant::now();
    for body in &bodies {
        let (status, answer) = connection.post("application/x-ndjson", body).await?;
        if status != 200 {
            bail!("{status}: {}", String::from_utf8_lossy(&answer));
        }
    }
    feed.await??;
    let took = began.elapsed();
    service.terminate().await?;
    Ok(took)
}

/// A row of the log, as the service wrote it.
struct Entry {
    id: i64,
    event_id: Vec<u8>,
    event_type: String,
    aggregate_type: String,
    aggregate_id: String,
    topic: Option<String>,
    event_key: String,
    payload: Vec<u8>,
    headers: Vec<u8>,
    source_event_id: Option<Vec<u8>>,
    release_id: Option<i64>,
    projections: Option<Vec<u8>>,
    created_at_ms: i64,
}

/// Writes the service's rows into a new database with the same tables and settings, and nothing else.
async fn bare(directory: &TempDir) -> Result<Duration> {
    let mut written = options(directory, "belfry.db").read_only(true).connect().await?;
    let schema: Vec<String> = sqlx::query_scalar(
        "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND (tbl_name IN ('outbox', 'inbox', 'issued'))",
    )
    .fetch_all(&mut written)
    .await?;
    let entries = read(&mut written).await?;
    if entries.len() as u64 != 2 * EVENTS {
        bail!("the service wrote {} entries for {EVENTS} events", entries.len());
    }
    let mut bare = options(directory, "bare.db").create_if_missing(true).connect().await?;
    for statement in schema {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut bare).await?;
    }
    let began = Instant::now();
    for group in entries.chunks(2 * GROUP) {
        let mut transaction = bare.begin_with("BEGIN IMMEDIATE").await?;
        write(&mut transaction, group).await?;
        transaction.commit().await?;
    }
    let took = began.elapsed();
    bare.close().await?;
    Ok(took)
}

fn options(directory: &TempDir, name: &str) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(directory.path().join(name))
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", "-8000")
}

async fn read(connection: &mut SqliteConnection) -> Result<Vec<Entry>> {
    let rows = sqlx::query(
        "SELECT id, event_id, event_type, aggregate_type, aggregate_id, topic, event_key, payload, headers, \
         source_event_id, release_id, projections, created_at_ms FROM outbox ORDER BY id",
    )
    .fetch_all(connection)
    .await?;
    let entry = |row: &sqlx::sqlite::SqliteRow| {
        Ok(Entry {
            id: row.try_get(0)?,
            event_id: row.try_get(1)?,
            event_type: row.try_get(2)?,
            aggregate_type: row.try_get(3)?,
            aggregate_id: row.try_get(4)?,
            topic: row.try_get(5)?,
            event_key: row.try_get(6)?,
            payload: row.try_get(7)?,
            headers: row.try_get(8)?,
            source_event_id: row.try_get(9)?,
            release_id: row.try_get(10)?,
            projections: row.try_get(11)?,
            created_at_ms: row.try_get(12)?,
        })
    };
    rows.iter().map(entry).collect::<Result<_, sqlx::Error>>().context("the service's rows")
}

async fn write(connection: &mut SqliteConnection, group: &[Entry]) -> Result<()> {
    let (notifications, events): (Vec<&Entry>, Vec<&Entry>) =
        group.iter().partition(|entry| entry.source_event_id.is_some());
    let hash = [0_u8; 32];
    for chunk in events.chunks(ROWS) {
        let mut query =
            QueryBuilder::<Sqlite>::new("INSERT INTO inbox (position, event_id, content_hash, received_at_ms) ");
        query.push_values(chunk, |mut row, entry| {
            row.push_bind(entry.id)
                .push_bind(entry.event_id.as_slice())
                .push_bind(hash.as_slice())
                .push_bind(entry.created_at_ms);
        });
        query.build().execute(&mut *connection).await?;
    }
    for chunk in notifications.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO issued (position, notification_id, received_at_ms) ");
        query.push_values(chunk, |mut row, entry| {
            row.push_bind(entry.id).push_bind(entry.event_id.as_slice()).push_bind(entry.created_at_ms);
        });
        query.build().execute(&mut *connection).await?;
    }
    for chunk in group.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO outbox (id, event_id, event_type, aggregate_type, aggregate_id, topic, event_key, payload, \
             headers, source_event_id, release_id, projections, created_at_ms) ",
        );
        query.push_values(chunk, |mut row, entry| {
            row.push_bind(entry.id)
                .push_bind(entry.event_id.as_slice())
                .push_bind(entry.event_type.as_str())
                .push_bind(entry.aggregate_type.as_str())
                .push_bind(entry.aggregate_id.as_str())
                .push_bind(entry.topic.as_deref())
                .push_bind(entry.event_key.as_str())
                .push_bind(entry.payload.as_slice())
                .push_bind(entry.headers.as_slice())
                .push_bind(entry.source_event_id.as_deref())
                .push_bind(entry.release_id)
                .push_bind(entry.projections.as_deref())
                .push_bind(entry.created_at_ms);
        });
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}
