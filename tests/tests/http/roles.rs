//! The privileges of each role in the database, and what operators see there.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use belfry_store::{
    KeepFor, NewEvent, NewParked, ParkedScope, Receipt, Retired, Store, StoreSettings, Submission, Writer,
    WriterSettings, migrate, migrate_submit,
};
use belfry_tests::servers::{Database, Postgres, shared_postgres};
use belfry_tests::{Batch, BelfryProcess, Client, logged_events, results_ready};
use bytes::Bytes;
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};
use tempfile::TempDir;
use tokio::sync::watch;
use uuid::Uuid;

/// Time limit of a wait.
const PATIENCE: Duration = Duration::from_secs(20);
const ROLES: [&str; 5] = ["belfry_owner", "belfry_runtime", "belfry_reader", "belfry_publisher", "somebody"];

/// Creates a database in which belfry_owner may create a schema. The role has no other privilege.
async fn database(server: &Postgres) -> Result<Database> {
    for role in ROLES {
        // Roles belong to the whole server, and another test may create them at the same time.
        let create = format!(
            "DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$"
        );
        server.execute(&create).await?;
    }
    let database = server.create_database().await?;
    server.execute(&format!("GRANT CREATE ON DATABASE {} TO belfry_owner", database.name)).await?;
    Ok(database)
}

fn settings(database: &Database, role: &str) -> StoreSettings {
    StoreSettings { migrate: false, ..StoreSettings::new(database.url_for(role)) }
}

#[tokio::test]
async fn a_whole_service_runs_as_belfry_runtime() -> Result<()> {
    let database = database(shared_postgres().await?).await?;
    migrate(&settings(&database, "belfry_owner")).await?;
    migrate_submit(&settings(&database, "belfry_owner")).await?;
    // The owner may migrate again when the schema is up to date, which grants privileges to roles created after the schema.
    migrate(&settings(&database, "belfry_owner")).await?;
    let directory = TempDir::new()?;
    let url = database.url_for("belfry_runtime");
    let belfry = BelfryProcess::start_with(
        directory.path(),
        &[
            ("store.url", url.clone()),
            ("store.migrate", "false".into()),
            ("store.partition_entries", "100".into()),
            ("sink.stdout.enabled", "true".into()),
            ("source.postgres", format!("[{{name=\"own\",url=\"{url}\"}}]")),
        ],
    )
    .await?;
    let client = belfry.client();
    client.push_and_activate(belfry_artifacts::URGENT_FAILURES, &json!({})).await?;
    let mut feed = client.feed("from=beginning", None).await?;
    // 500 entries: five ranges of the log.
    let lines: String = (0..250).map(|number| format!("{}\n", results_ready(&Batch::number(number)))).collect();
    for answer in client.post_lines(lines).await? {
        ensure!(answer["status"] == "accepted", "{answer}");
    }
    Client::collect(&mut feed, 250).await?;
    let publisher = PgPool::connect(&database.url_for("belfry_publisher")).await?;
    let submitted: Uuid = sqlx::query_scalar("SELECT belfry.submit($1)")
        .bind(results_ready(&Batch::number(250)).to_string())
        .fetch_one(&publisher)
        .await?;
    Client::collect(&mut feed, 1).await?;
    let shown = client.get(&format!("/v1/events/{submitted}")).await?;
    assert_eq!(shown.status, 200, "{shown:?}");
    let written = || Ok::<_, std::io::Error>(std::fs::read_to_string(directory.path().join("stdout"))?.lines().count());
    let began = Instant::now();
    while written()? < 502 {
        ensure!(began.elapsed() < PATIENCE, "the sink wrote {} of 502 entries", written()?);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let log = belfry.log()?;
    belfry.terminate().await?;
    assert!(!log.contains("permission denied"), "{log}");

    let store = Store::open(&settings(&database, "belfry_runtime")).await?;
    let keep = KeepFor { log: Duration::ZERO, inbox: Duration::ZERO };
    let retired = store.retire(keep, now_ms()?, 100).await?;
    assert_eq!(
        retired,
        Retired { log: 100, inbox: 200 },
        "a range of the log, and a chunk of each of the other tables"
    );
    store.close().await;
    let reader = PgPool::connect(&database.url_for("belfry_reader")).await?;
    assert_eq!(logged_events(&reader).await?.len(), 201);
    Ok(())
}

fn now_ms() -> Result<i64> {
    Ok(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis() as i64)
}

#[tokio::test]
async fn nobody_may_do_more_than_his_part() -> Result<()> {
    let database = database(shared_postgres().await?).await?;
    migrate(&settings(&database, "belfry_owner")).await?;
    migrate_submit(&settings(&database, "belfry_owner")).await?;
    let envelope = r#"'{"event_type":"a","source_service":"s","data":1}'"#;
    let submit = format!("SELECT belfry.submit({envelope})");
    let submit_to = format!("SELECT belfry.submit({envelope}, NULL, 'other.v1')");
    let submit_all = format!("SELECT belfry.submit_all(ARRAY[{envelope}])");
    let allowed = [
        ("belfry_publisher", submit.as_str()),
        ("belfry_publisher", &submit_all),
        ("belfry_publisher", &submit_to),
        ("belfry_runtime", "SELECT belfry.extend_log(100, 4)"),
        ("belfry_runtime", "SELECT belfry.retire_log(0, now())"),
        ("belfry_runtime", "SELECT belfry.incarnation()"),
        ("belfry_runtime", "DELETE FROM belfry.submitted"),
        (
            "belfry_runtime",
            "INSERT INTO belfry.discarded (sink, id, topic, event_key, error) VALUES ('s', 1, 't', 'k', 'e')",
        ),
        ("belfry_reader", "SELECT count(*) FROM belfry.discarded"),
        ("belfry_reader", "SELECT count(*) FROM belfry.event_outbox"),
        ("belfry_reader", "SELECT count(*) FROM belfry.parked"),
        ("belfry_owner", "SELECT belfry.incarnation()"),
    ];
    let refused = [
        ("belfry_runtime", "UPDATE belfry.outbox SET topic = NULL"),
        ("belfry_runtime", "DELETE FROM belfry.outbox"),
        ("belfry_runtime", "TRUNCATE belfry.outbox"),
        ("belfry_runtime", "DELETE FROM belfry.release"),
        ("belfry_runtime", "UPDATE belfry.rollout SET release_id = 1"),
        ("belfry_runtime", "DELETE FROM belfry.access_token"),
        ("belfry_runtime", "UPDATE belfry.pause SET reason = NULL"),
        ("belfry_runtime", "UPDATE belfry.component_signature SET signer = ''"),
        ("belfry_runtime", "UPDATE belfry.inbox SET content_hash = ''"),
        ("belfry_runtime", "UPDATE belfry.retired SET up_to = 0"),
        ("belfry_runtime", "UPDATE belfry.discarded SET reason = ''"),
        ("belfry_runtime", "DELETE FROM belfry.discarded"),
        ("belfry_runtime", "UPDATE belfry.submitted SET envelope = ''"),
        ("belfry_runtime", "CREATE TABLE belfry.more (id int)"),
        ("belfry_runtime", "DROP TABLE belfry.parked"),
        ("belfry_runtime", "ALTER SEQUENCE belfry.outbox_id CACHE 10"),
        ("belfry_runtime", "ALTER TABLE belfry.outbox ADD COLUMN more int"),
        ("belfry_runtime", &submit),
        ("belfry_reader", "INSERT INTO belfry.retired VALUES (true, 1)"),
        ("belfry_reader", "DELETE FROM belfry.dead_letter"),
        ("belfry_reader", "SELECT sha256 FROM belfry.access_token"),
        ("belfry_reader", "SELECT nextval('belfry.outbox_id')"),
        ("belfry_reader", "SELECT belfry.extend_log(100, 4)"),
        ("belfry_reader", "SELECT belfry.retire_log(0, now())"),
        ("belfry_reader", &submit),
        ("belfry_publisher", "SELECT FROM belfry.submitted"),
        ("belfry_publisher", "DELETE FROM belfry.submitted"),
        ("belfry_publisher", "INSERT INTO belfry.submitted (event_id, envelope) VALUES (gen_random_uuid(), '{}')"),
        ("belfry_publisher", "SELECT FROM belfry.outbox"),
        ("belfry_publisher", "SELECT FROM belfry.event_outbox"),
        ("belfry_publisher", "SELECT belfry.extend_log(100, 4)"),
        ("belfry_publisher", "SELECT belfry.incarnation()"),
        ("belfry_publisher", "SELECT nextval('belfry.submitted_id_seq')"),
        ("somebody", &submit),
        ("somebody", &submit_to),
        ("somebody", "SELECT FROM belfry.event_outbox"),
        ("somebody", "SELECT belfry.retire_log(0, now())"),
    ];
    for role in ROLES {
        let pool = PgPool::connect(&database.url_for(role)).await?;
        for (_, statement) in allowed.iter().filter(|(who, _)| *who == role) {
            let done = sqlx::query(AssertSqlSafe(*statement)).execute(&pool).await;
            done.with_context(|| format!("{role} should be allowed: {statement}"))?;
        }
        for (_, statement) in refused.iter().filter(|(who, _)| *who == role) {
            let error = sqlx::query(AssertSqlSafe(*statement)).execute(&pool).await.err();
            let code = error.as_ref().and_then(sqlx::Error::as_database_error).and_then(|error| error.code());
            // Insufficient privilege.
            assert_eq!(code.as_deref(), Some("42501"), "{role} should be denied: {statement}: {error:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn operators_see_the_log_with_what_became_of_each_entry() -> Result<()> {
    let database = shared_postgres().await?.create_database().await?;
    let store = Store::open(&StoreSettings::new(&database.url)).await?;
    let writer_settings = WriterSettings { group_entries: 10, group_wait: Duration::ZERO, queue: 1 };
    let writer = Writer::start(store.clone(), writer_settings, watch::Sender::new(0));
    let submission = |number: u128, topic: Option<&str>| Submission {
        event: NewEvent {
            event_id: Uuid::from_u128(number),
            content_hash: [0; 32],
            event_type: "counted.v1".into(),
            aggregate_type: "batch",
            aggregate_id: "batch-1".into(),
            topic: topic.map(str::to_owned),
            event_key: "key".into(),
            payload: Bytes::from_static("{\"data\":\"\\u0000 ä\"}".as_bytes()),
            headers: Bytes::from_static(b"{}"),
            projections: Bytes::from_static(b"[]"),
        },
        notifications: Vec::new(),
        dead_letters: Vec::new(),
        muted: false,
        origin: None,
    };
    let topics = [None, Some("counted.v1"), Some("counted.v1"), Some("counted.v1")];
    let submissions = topics.into_iter().zip(1..).map(|(topic, number)| submission(number, topic)).collect();
    let receipts = writer.submit(belfry_store::Batch::of(submissions)).await?.await??;
    let belfry_store::BatchReceipt::Committed(receipts) = receipts else { anyhow::bail!("{receipts:?}") };
    assert!(matches!(receipts[3], Receipt::Accepted { position: 4, .. }), "{receipts:?}");
    let (sink, owner) = ("kafka", Uuid::from_u128(7));
    store.register_sink(sink, 0).await?;
    let lease = store.acquire_lease(sink, owner).await?.context("a lease")?;
    let parked = NewParked {
        position: 3,
        topic: "counted.v1".into(),
        event_key: "key".into(),
        error: "too large".into(),
        scope: ParkedScope::Key,
    };
    assert!(store.checkpoint(sink, lease.epoch, 3, &[parked]).await?);

    let pool = PgPool::connect(&database.url).await?;
    let columns: Vec<String> = sqlx::query_scalar(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = 'belfry.event_outbox'::regclass ORDER BY attnum",
    )
    .fetch_all(&pool)
    .await?;
    let expected = [
        "id",
        "event_id",
        "aggregate_type",
        "aggregate_id",
        "event_type",
        "event_data",
        "event_key",
        "topic",
        "status",
        "created_at",
        "published_at",
    ];
    assert_eq!(columns, expected);
    let rows: Vec<(i64, String, bool, String)> = sqlx::query_as(
        "SELECT id, status, published_at >= created_at IS TRUE, event_data FROM belfry.event_outbox ORDER BY id",
    )
    .fetch_all(&pool)
    .await?;
    let expected = [(1, "recorded", false), (2, "published", true), (3, "parked", false), (4, "pending", false)]
        .map(|(id, status, published)| (id, status.to_owned(), published, "{\"data\":\"\\u0000 ä\"}".to_owned()));
    assert_eq!(rows, expected);
    store.close().await;
    Ok(())
}
