//! The guarantees for services that submit events within their own transactions.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use belfry_tests::servers::{Database, shared_postgres};
use belfry_tests::{Batch, LoggedEvent, ServiceDatabase, TestService, belfry, logged_events, results_ready};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

/// Time limit of a wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// A Belfry on a PostgreSQL database, and the database of a service, from which it reads events.
struct Together {
    belfry: TestService,
    log: PgPool,
    service: ServiceDatabase,
}

impl Together {
    async fn start() -> Result<Self> {
        let server = shared_postgres().await?;
        let service = ServiceDatabase::create(server).await?;
        let store = server.create_database().await?;
        let source = ServiceDatabase::setting(&[&service]);
        let settings = [("store.url", store.url.as_str()), ("source.postgres", source.as_str())];
        let belfry = TestService::start_with(belfry_artifacts::TEACHER_RESULTS, &settings).await?;
        Ok(Self { belfry, log: PgPool::connect(&store.url).await?, service })
    }

    /// Waits until the log has at least this number of events. Returns them all.
    async fn logged(&self, count: usize) -> Result<Vec<LoggedEvent>> {
        let began = Instant::now();
        loop {
            let events = logged_events(&self.log).await?;
            if events.len() >= count {
                return Ok(events);
            }
            ensure!(began.elapsed() < PATIENCE, "{} of {count} events are in the log", events.len());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn other(number: u32) -> Value {
    json!({ "event_type": "grading.essay.graded.v1", "source_service": "grading", "data": { "number": number } })
}

fn ids(events: &[LoggedEvent]) -> Vec<Uuid> {
    events.iter().map(|event| event.event_id).collect()
}

#[tokio::test]
async fn an_event_is_published_if_its_transaction_commits_and_only_then() -> Result<()> {
    let together = Together::start().await?;
    let pool = &together.service.pool;
    sqlx::query("CREATE TABLE essay (id int PRIMARY KEY, grade text)").execute(pool).await?;
    let mut submitted = Vec::new();
    for (number, commits) in [(1, true), (2, false), (3, true)] {
        let mut transaction = pool.begin().await?;
        sqlx::query("INSERT INTO essay VALUES ($1, 'A')").bind(number).execute(&mut *transaction).await?;
        let event_id: Uuid = sqlx::query_scalar("SELECT belfry.submit($1, $2)")
            .bind(other(number as u32).to_string())
            .bind("class-7")
            .fetch_one(&mut *transaction)
            .await?;
        if commits {
            transaction.commit().await?;
            submitted.push(event_id);
        } else {
            transaction.rollback().await?;
        }
    }
    assert_eq!(ids(&together.logged(2).await?), submitted);
    together.service.wait_until_read().await?;
    let events = together.logged(2).await?;
    assert_eq!(ids(&events), submitted, "the log does not hold exactly the committed events");
    assert_eq!(events[0].event_key, "class-7");
    let topic: String =
        sqlx::query_scalar("SELECT topic FROM belfry.event_outbox WHERE event_id = $1 AND status = 'pending'")
            .bind(submitted[0])
            .fetch_one(&together.log)
            .await?;
    assert_eq!(topic, "grading.essay.graded.v1", "it is not published yet, so Belfry publishes it");
    together.belfry.stop().await;
    Ok(())
}

#[tokio::test]
async fn rules_see_submitted_events() -> Result<()> {
    let together = Together::start().await?;
    let event = results_ready(&Batch::number(1));
    together.service.submit(&event.to_string(), None).await?;
    together.logged(1).await?;
    let history = together.belfry.client().get(&format!("/v1/events/{}", Batch::number(1).event_id)).await?;
    assert_eq!(history.body["notifications"].as_array().map(Vec::len), Some(1), "{history:?}");
    together.belfry.stop().await;
    Ok(())
}

#[tokio::test]
async fn events_that_belong_together_are_submitted_both_or_neither() -> Result<()> {
    let together = Together::start().await?;
    let submit_all = |envelopes: Vec<String>| {
        let query = sqlx::query_scalar::<_, Vec<Uuid>>("SELECT belfry.submit_all($1, 'essay-1')").bind(envelopes);
        query.fetch_one(&together.service.pool)
    };
    let refused = submit_all(vec![other(1).to_string(), json!({ "event_type": "x" }).to_string()]).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(together.service.waiting().await?, 0);
    let both = submit_all(vec![other(2).to_string(), other(3).to_string()]).await?;
    let events = together.logged(2).await?;
    assert_eq!((ids(&events), events[1].event_key.as_str()), (both, "essay-1"));
    together.belfry.stop().await;
    Ok(())
}

#[tokio::test]
async fn not_a_byte_of_what_was_given_is_changed() -> Result<()> {
    let together = Together::start().await?;
    let data = r#"{ "b":1.0, "a":[1e2,"\u0000 \\u0000 \u00e9 é 😀 \ud83d\ude00 /\/"],  "b" : 12345678901234567890 }"#;
    let whole = format!(
        r#" {{"event_id":"A25FB85B-a5b0-523c-993b-2dc42602b95d", "event_timestamp":"2026-03-02T09:15:01.50", "event_type":"a.v1",
            "source_service":"s","unknown":null, "data":{data}}} "#
    );
    let partial = format!(r#"{{ "event_type":"a.v1","source_service":"s","data":{data} }}"#);
    let first = together.service.submit(&whole, None).await?;
    let second = together.service.submit(&partial, None).await?;
    let events = together.logged(2).await?;
    assert_eq!(ids(&events), [first, second]);
    assert_eq!(events[0].payload, whole);
    let time =
        serde_json::from_str::<Value>(&events[1].payload)?["event_timestamp"].as_str().context("a time")?.to_owned();
    let filled = format!(r#"{{"event_id":"{second}","event_timestamp":"{time}","#);
    assert_eq!(events[1].payload, partial.replacen('{', &filled, 1));
    together.belfry.stop().await;
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_is_told_to_whoever_submits_it() -> Result<()> {
    let service = ServiceDatabase::create(shared_postgres().await?).await?;
    let envelope = |name: &str, value: Value| {
        let mut envelope = other(1);
        envelope[name] = value;
        envelope.to_string()
    };
    for (wrong, expected) in [
        ("no JSON".to_owned(), "not valid JSON"),
        ("[]".to_owned(), "not an object"),
        (String::new(), "not valid JSON"),
        (r#"{"event_type":"a","source_service":"s"}"#.to_owned(), "data is missing"),
        (r#"{"event_type":"a","data":{}}"#.to_owned(), "source_service is missing"),
        (r#"{"source_service":"s","data":{}}"#.to_owned(), "event_type is missing"),
        (r#"{"event_type":"a","source_service":"s","data":{},"data":{}}"#.to_owned(), "occurs twice"),
        (r#"{"event_type":"a","source_service":"s","data":"\ud800"}"#.to_owned(), "not valid JSON"),
        (envelope("event_type", "a topic".into()), "no name of a topic"),
        (envelope("event_type", "a\u{0}b".into()), "no name of a topic"),
        (envelope("event_id", "7".into()), "event_id is not a UUID"),
        (envelope("event_id", Value::Null), "event_id is not a UUID"),
        (envelope("correlation_id", "7".into()), "correlation_id is not a UUID"),
        (envelope("event_timestamp", "yesterday".into()), "event_timestamp is not a date"),
        (envelope("event_timestamp", "2026-02-30T00:00:00Z".into()), "out of range"),
        (envelope("data", "x".repeat(1 << 20).into()), "1 to 1048576 are taken"),
        (envelope("data", "x".repeat((1 << 20) - 90).into()), "submitted_envelope_size"),
    ] {
        let refused =
            service.submit(&wrong, None).await.err().with_context(|| format!("accepted, expected: {expected}"))?;
        let message = refused.as_database_error().context("a database error")?.message().to_owned();
        assert!(message.contains(expected), "{expected}: {message}");
    }
    assert!(service.submit(&other(1).to_string(), Some(&"x".repeat(1025))).await.is_err());
    assert_eq!(service.waiting().await?, 0);
    Ok(())
}

#[tokio::test]
async fn what_belfry_refuses_becomes_a_dead_letter_and_is_gone_from_the_service() -> Result<()> {
    let together = Together::start().await?;
    let mut broken = results_ready(&Batch::number(1));
    broken["data"]["total_essays"] = "ten".into();
    let mut contradicting = results_ready(&Batch::number(2));
    contradicting["data"]["user_id"] = "somebody else".into();
    for envelope in [broken, results_ready(&Batch::number(2)), contradicting, results_ready(&Batch::number(2))] {
        together.service.submit(&envelope.to_string(), None).await?;
    }
    together.service.wait_until_read().await?;
    assert_eq!(ids(&together.logged(1).await?), [Batch::number(2).event_id]);
    let letters: Vec<(Uuid, String, String, i64)> = sqlx::query_as(
        "SELECT event_id, cause, source_topic, source_offset FROM belfry.dead_letter ORDER BY source_offset",
    )
    .fetch_all(&together.log)
    .await?;
    let expected = [(Batch::number(1).event_id, "malformed", 1), (Batch::number(2).event_id, "conflict", 3)]
        .map(|(event_id, cause, offset)| (event_id, cause.to_owned(), "postgres:a".to_owned(), offset));
    assert_eq!(letters, expected);
    together.belfry.stop().await;
    Ok(())
}

/// Returns the topics of the log's events, in order.
async fn topics(log: &PgPool) -> Result<Vec<Option<String>>> {
    let query = "SELECT topic FROM belfry.outbox WHERE source_event_id IS NULL ORDER BY id";
    Ok(sqlx::query_scalar(query).fetch_all(log).await?)
}

/// The caller chooses the topic, even in a service's database that is upgraded while Belfry reads it.
#[tokio::test]
async fn an_event_may_be_published_to_a_topic_of_its_own() -> Result<()> {
    let together = Together::start().await?;
    let pool = &together.service.pool;
    sqlx::raw_sql(
        "DROP FUNCTION belfry.submit(text, text, text), belfry.submit_all(text[], text, text); \
         ALTER TABLE belfry.submitted DROP COLUMN topic; DELETE FROM belfry._submit_migrations WHERE version = 3",
    )
    .execute(pool)
    .await?;
    together.service.submit(&other(1).to_string(), None).await?;
    together.logged(1).await?;
    let (code, text) = migrated(&["migrate", "--submit-only", "--url", &together.service.database.url]).await?;
    assert!(code == Some(0) && text.contains("migrated from version 2 to 3"), "{text}");

    let submit = |topic: Option<&'static str>| {
        sqlx::query("SELECT belfry.submit($1, NULL, $2)").bind(other(2).to_string()).bind(topic).execute(pool)
    };
    submit(Some("grading.graded")).await?;
    submit(None).await?;
    sqlx::query("SELECT belfry.submit_all($1, topic => 'both.v1', event_key => 'k')")
        .bind(vec![other(3).to_string(), other(4).to_string()])
        .execute(pool)
        .await?;
    let own = Some("grading.essay.graded.v1".to_owned());
    let of = |topic: &str| Some(topic.to_owned());
    together.logged(5).await?;
    let expected = [own.clone(), of("grading.graded"), own, of("both.v1"), of("both.v1")];
    assert_eq!(topics(&together.log).await?, expected);

    for wrong in ["", "no topic", ".", "a/b"] {
        let refused = submit(Some(wrong)).await.err().with_context(|| format!("accepted: {wrong}"))?;
        assert!(refused.to_string().contains("not a name that a topic can have"), "{refused}");
    }
    // Only rules write to the topic of notifications.
    submit(Some("huleedu.notification.teacher.requested.v1")).await?;
    together.service.wait_until_read().await?;
    let letters: Vec<String> =
        sqlx::query_scalar("SELECT detail FROM belfry.dead_letter").fetch_all(&together.log).await?;
    assert!(letters.len() == 1 && letters[0].contains("huleedu.notification.teacher.requested.v1"), "{letters:?}");
    together.belfry.stop().await;
    Ok(())
}

async fn migrated(arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let ended = belfry(arguments).await?;
    Ok((ended.code, ended.stdout + &ended.stderr))
}

async fn tables(database: &Database) -> Result<Vec<String>> {
    let pool = PgPool::connect(&database.url).await?;
    let query = "SELECT relname::text FROM pg_class WHERE relnamespace = 'belfry'::regnamespace AND relkind IN ('r', 'p') \
                 AND relname NOT LIKE '\\_%' AND relname NOT LIKE 'outbox\\_%' ORDER BY 1";
    Ok(sqlx::query_scalar(query).fetch_all(&pool).await?)
}

#[tokio::test]
async fn the_command_installs_it_and_says_from_where_to_where() -> Result<()> {
    let server = shared_postgres().await?;
    let (service, store) = (server.create_database().await?, server.create_database().await?);
    let install = ["migrate", "--submit-only", "--url", &service.url];
    for expected in ["schema submit migrated from version 0 to 3", "schema submit is up to date at version 3"] {
        let (code, text) = migrated(&install).await?;
        assert!(code == Some(0) && text.contains(expected), "{code:?} {text}");
    }
    assert_eq!(tables(&service).await?, ["submitted"]);

    // Belfry's own database: `serve` rejects an old schema, `migrate` upgrades it, and both schemas may be installed there.
    let url = format!("store.url={}", store.url);
    let serve = ["serve", "--set", &url, "--set", "store.migrate=false", "--set", "http.listen=127.0.0.1:0"];
    let (code, text) = migrated(&serve).await?;
    assert!(code == Some(5) && text.contains("run `belfry migrate` first"), "{code:?} {text}");
    let (code, text) = migrated(&["--output", "json", "migrate", "--set", &url]).await?;
    let expected: Value = serde_json::from_str(text.trim())?;
    assert_eq!((code, &expected["from"]), (Some(0), &json!(0)));
    assert!(expected["to"].as_i64() >= Some(1), "{expected}");
    let (code, text) = migrated(&["migrate", "--submit-only", "--url", &store.url]).await?;
    assert_eq!(code, Some(0), "{text}");
    assert!(tables(&store).await?.contains(&"submitted".to_owned()));

    for (wrong, code) in [
        (vec!["migrate", "--submit-only"], 2),
        (vec!["migrate", "--submit-only", "--url", "mysql://u:hidden@h/d"], 2),
        (vec!["migrate", "--submit-only", "--url-file", "/nowhere"], 78),
        (vec!["migrate", "--submit-only", "--url", "postgres://u:hidden@127.0.0.1:1/d"], 1),
        (vec!["migrate", "--set", "store.url=sqlite:belfry.db"], 0),
    ] {
        let (ended, text) = migrated(&wrong).await?;
        assert_eq!(ended, Some(code), "{wrong:?}: {text}");
        assert!(!text.contains("hidden"), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn installing_it_twice_at_once_is_harmless() -> Result<()> {
    let database = shared_postgres().await?.create_database().await?;
    let install = || async { migrated(&["migrate", "--submit-only", "--url", &database.url]).await };
    let (one, two, three) = tokio::join!(install(), install(), install());
    for (code, text) in [one?, two?, three?] {
        assert_eq!(code, Some(0), "{text}");
    }
    Ok(())
}
