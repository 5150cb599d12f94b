//! Submitted events across kills: none is lost or duplicated, and those of each key keep the order in which transactions
//! that waited for each other submitted them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use belfry_store::{LAST_DRAWN_ID, Submitted, SubmittedSettings};
use belfry_tests::servers::{Postgres, shared_postgres};
use belfry_tests::{Batch, BelfryProcess, ServiceDatabase, logged_events, results_ready};
use serde_json::json;
use sqlx::{PgPool, Row};
use tempfile::TempDir;
use tokio::task::JoinSet;
use uuid::Uuid;

/// Time limit of a wait. A lease must expire within it.
const PATIENCE: Duration = Duration::from_secs(40);
/// For each service, the number of writers and the number of keys that they write.
const WRITERS: u64 = 8;
const KEYS: u64 = 4;

/// Two services, each on its own server, and the database of Belfry's log on the first server.
struct Servers {
    services: [ServiceDatabase; 2],
    second: Postgres,
    store: String,
    log: PgPool,
    directory: TempDir,
}

impl Servers {
    async fn start() -> Result<Self> {
        let directory = TempDir::new()?;
        let first = shared_postgres().await?;
        let second = Postgres::start(&directory.path().join("second"), &[]).await?;
        let services = [ServiceDatabase::create(first).await?, ServiceDatabase::create(&second).await?];
        let store = first.create_database().await?.url;
        belfry_store::migrate(&belfry_store::StoreSettings::new(&store)).await?;
        Ok(Self { services, second, log: PgPool::connect(&store).await?, store, directory })
    }

    async fn belfry(&self) -> Result<BelfryProcess> {
        let sources = ServiceDatabase::setting(&[&self.services[0], &self.services[1]]);
        let settings = [("store.url", self.store.clone()), ("source.postgres", sources)];
        BelfryProcess::start_with(self.directory.path(), &settings).await
    }

    async fn wait_for_events(&self, count: usize) -> Result<()> {
        let began = Instant::now();
        while logged_events(&self.log).await?.len() < count {
            ensure!(began.elapsed() < PATIENCE, "{} of {count} events", logged_events(&self.log).await?.len());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn wait_until_read(&self) -> Result<()> {
        for service in &self.services {
            service.wait_until_read().await?;
        }
        Ok(())
    }

    /// Returns the replica that holds the lease on the first service's events.
    async fn reader(&self) -> Result<Option<Uuid>> {
        let row = sqlx::query("SELECT owner FROM belfry.relay WHERE sink = 'postgres:a' AND lease_until > now()")
            .fetch_optional(&self.log)
            .await?;
        row.map(|row| Ok(row.try_get(0)?)).transpose()
    }
}

#[tokio::test]
async fn a_kill_between_the_commit_here_and_the_deletion_there_repeats_nothing() -> Result<()> {
    let servers = Servers::start().await?;
    let [_, service] = &servers.services;
    for number in 0..20 {
        service.submit(&results_ready(&Batch::number(number)).to_string(), None).await?;
    }
    // A session that deletes the rows waits for this transaction; a session that reads them does not.
    let mut holder = service.pool.begin().await?;
    sqlx::query("SELECT FROM belfry.submitted FOR UPDATE").execute(&mut *holder).await?;
    let belfry = servers.belfry().await?;
    servers.wait_for_events(20).await?;
    belfry.kill().await?;
    assert_eq!(service.waiting().await?, 20, "it deleted rows before it was killed");
    holder.rollback().await?;

    let belfry = servers.belfry().await?;
    servers.wait_until_read().await?;
    let events = logged_events(&servers.log).await?;
    let expected: Vec<Uuid> = (0..20).map(|number| Batch::number(number).event_id).collect();
    assert_eq!(events.iter().map(|event| event.event_id).collect::<Vec<_>>(), expected);
    let entries: i64 = sqlx::query_scalar("SELECT count(*) FROM belfry.outbox").fetch_one(&servers.log).await?;
    assert_eq!(entries, 40, "each event has one notification");
    belfry.terminate().await?;
    servers.second.stop().await
}

/// For each key, the numbers and ids of the events that a writer's committed transactions submitted.
type Ledger = BTreeMap<String, Vec<(i64, Uuid)>>;

/// Submits events in transactions that wait for each other if they have the same key. Rolls back a fifth of them, and
/// returns the events of the others.
async fn write(service: PgPool, name: char, writer: u64, stop: Arc<AtomicBool>) -> Result<Ledger> {
    let mut ledger = Ledger::new();
    let mut round = writer;
    while !stop.load(Ordering::SeqCst) {
        round += 1;
        let key = format!("{name}-{}", (writer + round) % KEYS);
        let mut transaction = service.begin().await?;
        let number: i64 = sqlx::query_scalar("UPDATE counter SET number = number + 1 WHERE key = $1 RETURNING number")
            .bind(&key)
            .fetch_one(&mut *transaction)
            .await?;
        let event = json!({ "event_type": "counted.v1", "source_service": "s", "data": { "number": number } });
        let event_id: Uuid = sqlx::query_scalar("SELECT belfry.submit($1, $2)")
            .bind(event.to_string())
            .bind(&key)
            .fetch_one(&mut *transaction)
            .await?;
        tokio::time::sleep(Duration::from_millis(round % 4)).await;
        if round.is_multiple_of(5) {
            transaction.rollback().await?;
        } else {
            transaction.commit().await?;
            ledger.entry(key).or_default().push((number, event_id));
        }
    }
    Ok(ledger)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_any_moment_lose_nothing_double_nothing_and_keep_the_order_of_each_key() -> Result<()> {
    let servers = Servers::start().await?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for (service, name) in servers.services.iter().zip('a'..) {
        sqlx::query("CREATE TABLE counter (key text PRIMARY KEY, number bigint NOT NULL DEFAULT 0)")
            .execute(&service.pool)
            .await?;
        for key in 0..KEYS {
            let insert = sqlx::query("INSERT INTO counter (key) VALUES ($1)").bind(format!("{name}-{key}"));
            insert.execute(&service.pool).await?;
        }
        for writer in 0..WRITERS {
            writers.spawn(write(service.pool.clone(), name, writer, stop.clone()));
        }
    }
    for life_ms in [30, 170, 60, 240, 10, 110, 300, 80] {
        let belfry = servers.belfry().await?;
        let seen = logged_events(&servers.log).await?.len();
        servers.wait_for_events(seen + 1).await?;
        tokio::time::sleep(Duration::from_millis(life_ms)).await;
        belfry.kill().await?;
        // Its leases would expire; the test does not wait for that.
        sqlx::query("UPDATE belfry.relay SET lease_until = '-infinity'").execute(&servers.log).await?;
    }
    let belfry = servers.belfry().await?;
    stop.store(true, Ordering::SeqCst);
    let mut expected = Ledger::new();
    while let Some(ledger) = writers.join_next().await {
        for (key, submitted) in ledger?? {
            expected.entry(key).or_default().extend(submitted);
        }
    }
    servers.wait_until_read().await?;
    let mut found: BTreeMap<String, Vec<Uuid>> = BTreeMap::new();
    for event in logged_events(&servers.log).await? {
        found.entry(event.event_key).or_default().push(event.event_id);
    }
    for (key, mut submitted) in expected {
        submitted.sort_unstable();
        let submitted: Vec<Uuid> = submitted.into_iter().map(|(_, event_id)| event_id).collect();
        let logged = found.remove(&key).unwrap_or_default();
        ensure!(logged == submitted, "{key}: {} in the log, {} were submitted", logged.len(), submitted.len());
    }
    ensure!(found.is_empty(), "rolled back, but in the log: {found:?}");
    belfry.terminate().await?;
    servers.second.stop().await
}

#[tokio::test]
async fn one_replica_reads_and_another_goes_on_when_it_dies() -> Result<()> {
    let servers = Servers::start().await?;
    let [service, _] = &servers.services;
    let first = servers.belfry().await?;
    service.submit(&results_ready(&Batch::number(1)).to_string(), None).await?;
    servers.wait_for_events(1).await?;
    let reader = servers.reader().await?.context("a reader")?;
    let second = servers.belfry().await?;
    service.submit(&results_ready(&Batch::number(2)).to_string(), None).await?;
    servers.wait_for_events(2).await?;
    assert_eq!(servers.reader().await?, Some(reader), "the first replica still reads");

    // After a kill, the lease must expire first.
    first.kill().await?;
    service.submit(&results_ready(&Batch::number(3)).to_string(), None).await?;
    servers.wait_for_events(3).await?;
    let heir = servers.reader().await?.context("a reader")?;
    assert_ne!(heir, reader);

    // After a clean shutdown it need not.
    let third = servers.belfry().await?;
    second.terminate().await?;
    let stopped_at = Instant::now();
    service.submit(&results_ready(&Batch::number(4)).to_string(), None).await?;
    servers.wait_for_events(4).await?;
    ensure!(stopped_at.elapsed() < Duration::from_secs(3), "it took {:?}", stopped_at.elapsed());
    servers.wait_until_read().await?;
    third.terminate().await?;
    servers.second.stop().await
}

#[tokio::test]
async fn a_service_that_is_away_is_read_when_it_is_back() -> Result<()> {
    let servers = Servers::start().await?;
    let [first, second] = &servers.services;
    let belfry = servers.belfry().await?;
    second.submit(&results_ready(&Batch::number(1)).to_string(), None).await?;
    servers.wait_for_events(1).await?;
    servers.second.kill().await?;
    // The other service is read in the meantime.
    first.submit(&results_ready(&Batch::number(2)).to_string(), None).await?;
    servers.wait_for_events(2).await?;
    servers.second.restart().await?;
    second.submit(&results_ready(&Batch::number(3)).to_string(), None).await?;
    servers.wait_for_events(3).await?;
    servers.wait_until_read().await?;
    let ids: HashSet<Uuid> = logged_events(&servers.log).await?.iter().map(|event| event.event_id).collect();
    assert_eq!(ids.len(), 3);
    belfry.terminate().await?;
    servers.second.stop().await
}

/// Two backlogs of 100,000 rows, while a dump keeps deleted rows from being vacuumed.
#[tokio::test]
async fn what_is_deleted_and_not_yet_cleared_away_does_not_slow_down_the_reader() -> Result<()> {
    const BACKLOG: i64 = 100_000;
    let service = ServiceDatabase::create(shared_postgres().await?).await?;
    let mut dump = service.pool.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").execute(&mut *dump).await?;
    sqlx::query("SELECT count(*) FROM belfry.submitted").execute(&mut *dump).await?;
    let settings = SubmittedSettings {
        url: service.database.url.clone(),
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(30),
    };
    let mut submitted = Submitted::connect(&settings).await?;
    let mut reads = Vec::new();
    for _ in 0..2 {
        sqlx::query(
            "INSERT INTO belfry.submitted (event_id, envelope) \
             SELECT gen_random_uuid(), repeat('x', 1000) FROM generate_series(1, $1)",
        )
        .bind(BACKLOG)
        .execute(&service.pool)
        .await?;
        loop {
            let began = Instant::now();
            let events = submitted.read(500, 8 << 20).await?;
            reads.push(began.elapsed());
            if events.is_empty() {
                break;
            }
            submitted.delete(&events.iter().map(|event| event.id).collect::<Vec<_>>()).await?;
        }
    }
    let median = |reads: &[Duration]| {
        let mut sorted = reads.to_vec();
        sorted.sort_unstable();
        sorted[sorted.len() / 2]
    };
    let tenth = reads.len() / 10;
    let (first, last) = (median(&reads[..tenth]), median(&reads[reads.len() - tenth..]));
    submitted.close().await;
    // Times depend on the machine's other load, so the test counts the rows that were scanned. Each row is read and
    // deleted; without the floor, each read also scans all rows deleted before it, forty million in total.
    let began = Instant::now();
    let looked_at = loop {
        let looked_at: i64 =
            sqlx::query_scalar("SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'submitted_pkey'")
                .fetch_one(&service.pool)
                .await?;
        // The statistics of a session appear after it ends.
        if looked_at >= 4 * BACKLOG {
            break looked_at;
        }
        ensure!(began.elapsed() < PATIENCE, "{looked_at} rows scanned");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    println!(
        "{} reads; {looked_at} rows scanned; median {first:?} in the first tenth, {last:?} in the last",
        reads.len()
    );
    ensure!(looked_at < 20 * BACKLOG, "{looked_at} rows were scanned to read {}", 2 * BACKLOG);
    dump.rollback().await?;
    Ok(())
}

/// The reader skips ids that were drawn, once all transactions that drew them have ended. An id that is not drawn yet must
/// not be among them: its row would be found a minute later, after the rows that follow it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_counts_as_drawn_only_once_it_is() -> Result<()> {
    const LOOKS: u32 = 500_000;
    let service = ServiceDatabase::create(shared_postgres().await?).await?;
    let mut drawing = JoinSet::new();
    for _ in 0..4 {
        let pool = service.pool.clone();
        drawing.spawn(async move {
            let draw = "SELECT count(nextval('belfry.submitted_id_seq')) FROM generate_series(1, 1000)";
            while sqlx::query(draw).execute(&pool).await.is_ok() {}
        });
    }
    let look = format!(
        "DO $$ DECLARE seen bigint; drawn bigint; BEGIN \
           FOR look IN 1..{LOOKS} LOOP \
             seen := ({LAST_DRAWN_ID}); \
             drawn := pg_sequence_last_value('belfry.submitted_id_seq'); \
             IF seen > drawn THEN RAISE EXCEPTION '% was seen as drawn, and later only %', seen, drawn; END IF; \
           END LOOP; \
         END $$"
    );
    let drawn = async || sqlx::query_scalar::<_, Option<i64>>(LAST_DRAWN_ID).fetch_one(&service.pool).await;
    let before = drawn().await?.unwrap_or(0);
    sqlx::raw_sql(sqlx::AssertSqlSafe(look)).execute(&service.pool).await?;
    ensure!(drawn().await?.unwrap_or(0) > before + 10_000, "too few ids were drawn meanwhile");
    drawing.shutdown().await;
    Ok(())
}
