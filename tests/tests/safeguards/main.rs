//! Minimal demonstrations of what goes wrong without each safeguard. `make sabotage` runs these tests with the safeguard
//! switched off, and they must fail then. More of them are in `store`.

mod starved;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use belfry_store::{Batch, BatchChain, NewEvent, OpenError, Store, StoreSettings, Submission, Writer, WriterSettings};
use belfry_tests::servers::{Database, shared_postgres};
use bytes::Bytes;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

const WRITERS: u64 = 4;
const GROUPS: u64 = 60;

async fn database() -> Result<Database> {
    shared_postgres().await?.create_database().await
}

async fn open(database: &Database) -> Result<(Store, Writer)> {
    let store = Store::open(&StoreSettings::new(&database.url)).await?;
    let settings = WriterSettings { group_entries: 500, group_wait: Duration::from_millis(1), queue: 16 };
    let writer = Writer::start(store.clone(), settings, watch::Sender::new(0));
    Ok((store, writer))
}

fn submission(event_id: Uuid) -> Submission {
    let event = NewEvent {
        event_id,
        content_hash: [0; 32],
        event_type: "test.event.v1".into(),
        aggregate_type: "event",
        aggregate_id: "a".into(),
        topic: Some("test.event.v1".into()),
        event_key: String::new(),
        payload: Bytes::from_static(b"{}"),
        headers: Bytes::from_static(b"{}"),
        projections: Bytes::from_static(b"[]"),
    };
    Submission { event, notifications: Vec::new(), dead_letters: Vec::new(), muted: false, origin: None }
}

/// Checks that a reader at full speed skips no entry while several writers delay between insert and commit, and some
/// transactions roll back.
async fn no_entry_is_passed_over(database: &Database) -> Result<()> {
    belfry_store::fail::cfg("commit.after-insert", "30%sleep(4)").map_err(anyhow::Error::msg)?;
    let mut opened = Vec::new();
    for _ in 0..WRITERS {
        opened.push(open(database).await?.1);
    }
    let finished = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn(read(open(database).await?.0, finished.clone()));
    let mut writers = JoinSet::new();
    for (number, writer) in (0..).zip(opened) {
        let mut random = fastrand::Rng::with_seed(number);
        writers.spawn(async move {
            for _ in 0..GROUPS {
                let group = (0..random.u64(1..20)).map(|_| submission(Uuid::new_v4())).collect();
                writer.submit(Batch::of(group)).await?.await??;
            }
            anyhow::Ok(())
        });
    }
    let url = database.url.clone();
    writers.spawn(async move { roll_back(&url).await });
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    finished.store(true, Ordering::SeqCst);
    let seen = reader.await??;
    belfry_store::fail::remove("commit.after-insert");
    let mut connection = PgConnection::connect(&database.url).await?;
    let all: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM belfry.outbox ORDER BY id").fetch_all(&mut connection).await?;
    let missed: Vec<&i64> = all.iter().filter(|id| !seen.contains(id)).collect();
    ensure!(missed.is_empty(), "of {} entries, the reader skipped {}: {missed:?}", all.len(), missed.len());
    Ok(())
}

/// Draws positions in transactions that roll back, a fifth as many as the writers' groups.
async fn roll_back(url: &str) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    let mut random = fastrand::Rng::with_seed(99);
    for _ in 0..WRITERS * GROUPS / 5 {
        let mut transaction = connection.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock(7341, 'belfry.outbox'::regclass::oid::int)")
            .execute(&mut *transaction)
            .await?;
        sqlx::query("SELECT nextval('belfry.outbox_id') FROM generate_series(1, 3)").execute(&mut *transaction).await?;
        tokio::time::sleep(Duration::from_millis(random.u64(0..4))).await;
        transaction.rollback().await?;
    }
    Ok(())
}

/// Reads like a relay, from the last position read. Returns all positions read.
async fn read(store: Store, finished: Arc<AtomicBool>) -> Result<HashSet<i64>> {
    let (mut position, mut seen) = (0, HashSet::new());
    loop {
        let last_look = finished.load(Ordering::SeqCst);
        for entry in store.read_relay(position, 1000).await?.entries {
            position = entry.position;
            seen.insert(position);
        }
        if last_look {
            return Ok(seen);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_passes_over_no_entry_whatever_the_order_of_commits() -> Result<()> {
    no_entry_is_passed_over(&database().await?).await
}

/// Shows why the lock exists: the same case without it, in its smallest form.
#[tokio::test]
async fn a_reader_of_a_table_without_the_lock_passes_over_what_commits_late() -> Result<()> {
    let database = database().await?;
    let mut early = PgConnection::connect(&database.url).await?;
    let mut late = PgConnection::connect(&database.url).await?;
    sqlx::query("CREATE TABLE naive (id bigserial)").execute(&mut early).await?;
    let mut slow = late.begin().await?;
    sqlx::query("INSERT INTO naive DEFAULT VALUES").execute(&mut *slow).await?;
    sqlx::query("INSERT INTO naive DEFAULT VALUES").execute(&mut early).await?;
    let seen: Vec<i64> = sqlx::query_scalar("SELECT id FROM naive ORDER BY id").fetch_all(&mut early).await?;
    slow.commit().await?;
    let after: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM naive WHERE id > $1").bind(seen[0]).fetch_all(&mut early).await?;
    ensure!((seen.as_slice(), after.as_slice()) == ([2].as_slice(), [].as_slice()), "{seen:?}, then {after:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_sequence_that_lets_sessions_cache_positions_is_refused() -> Result<()> {
    let database = database().await?;
    open(&database).await?.0.close().await;
    let mut connection = PgConnection::connect(&database.url).await?;
    sqlx::query("ALTER SEQUENCE belfry.outbox_id CACHE 20").execute(&mut connection).await?;
    match Store::open(&StoreSettings::new(&database.url)).await.map(|_| ()) {
        Err(OpenError::Changed(_)) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(()) => no_entry_is_passed_over(&database).await.context("the sequence was not rejected"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_that_bring_the_same_ids_do_not_deadlock() -> Result<()> {
    let database = database().await?;
    let (first, second) = (open(&database).await?, open(&database).await?);
    for _ in 0..15 {
        let ids: Vec<Uuid> = (0..300).map(|_| Uuid::new_v4()).collect();
        let group = || Batch::of(ids.iter().map(|id| submission(*id)).collect());
        let (one, other) = (first.1.submit(group()).await?, second.1.submit(group()).await?);
        one.await??;
        other.await??;
    }
    // A session reports its statistics when it ends.
    first.0.close().await;
    second.0.close().await;
    let mut connection = PgConnection::connect(&database.url).await?;
    let deadlocks: i64 = sqlx::query("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        .fetch_one(&mut connection)
        .await?
        .try_get(0)?;
    ensure!(deadlocks == 0, "{deadlocks} deadlocks");
    Ok(())
}

/// A sender whose request is accepted in several parts sends all of it again if one part fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_behind_a_failed_part_of_a_request_is_not_committed() -> Result<()> {
    let database = database().await?;
    let settings = StoreSettings { lock_timeout: Duration::from_millis(300), ..StoreSettings::new(&database.url) };
    let store = Store::open(&settings).await?;
    let gathering = WriterSettings { group_entries: 1, group_wait: Duration::ZERO, queue: 16 };
    let writer = Writer::start(store.clone(), gathering, watch::Sender::new(0));
    let mut connection = PgConnection::connect(&database.url).await?;
    let mut holder = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock(7341, 'belfry.outbox'::regclass::oid::int)")
        .execute(&mut *holder)
        .await?;
    let run = BatchChain::default();
    let first = writer.submit_behind(&run, Batch::of(vec![submission(Uuid::from_u128(1))])).await?;
    let second = writer.submit_behind(&run, Batch::of(vec![submission(Uuid::from_u128(2))])).await?;
    ensure!(first.await?.is_err(), "the first part was committed although the lock was held beyond its time limit");
    holder.rollback().await?;
    ensure!(second.await?.is_err(), "the second part was committed without the first");
    // Another sender's events are committed.
    writer.submit(Batch::of(vec![submission(Uuid::from_u128(3))])).await?.await??;
    let log = store.read_relay(0, 10).await?.entries;
    ensure!(log.len() == 1 && log[0].event_id == Uuid::from_u128(3), "{log:?}");
    Ok(())
}
