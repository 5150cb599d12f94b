//! Redis as a sink, and as the channel that wakes replicas: its failures cost time and nothing else.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use belfry_tests::servers::{Certificates, Redis, RedisOptions, shared_postgres, shared_redis};
use belfry_tests::{Batch, BelfryProcess, Client, Replica, assessment, results_ready};
use futures_util::StreamExt;
use redis::aio::{MultiplexedConnection, PubSub};
use serde_json::{Value, json};
use sqlx::Connection;
use tempfile::TempDir;
use tokio::time::timeout;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(20);
/// Time limit for a replica to detect an entry without being woken: one heartbeat, with some slack for a busy machine.
const HEARTBEAT: Duration = Duration::from_secs(7);

async fn connect(redis: &Redis) -> Result<MultiplexedConnection> {
    Ok(redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?)
}

async fn subscribe(redis: &Redis, channel: &str) -> Result<PubSub> {
    let mut listener = redis::Client::open(redis.url())?.get_async_pubsub().await?;
    listener.subscribe(channel).await?;
    Ok(listener)
}

async fn hear(listener: &mut PubSub) -> Result<String> {
    let message = timeout(PATIENCE, listener.on_message().next()).await.context("nothing is published")?;
    Ok(message.context("the connection is closed")?.get_payload()?)
}

/// Returns a teacher's id that no other test uses.
fn teacher() -> String {
    format!("teacher-björn-{}", Uuid::new_v4())
}

#[tokio::test]
async fn teachers_are_told_what_the_websocket_service_would_tell_them() -> Result<()> {
    let directory = TempDir::new()?;
    let redis = shared_redis().await?;
    let teacher = teacher();
    let mut listener = subscribe(redis, &format!("ws:{teacher}")).await?;
    let settings = [("sink.redis.enabled", "true".to_owned()), ("redis.url", redis.url())];
    let belfry = BelfryProcess::start_with(directory.path(), &settings).await?;
    let batch = Batch { teacher: teacher.clone(), ..Batch::number(1) };
    let mut event = results_ready(&batch);
    event["event_timestamp"] = json!("2026-03-02T09:15:01.25Z");
    belfry.client().post(&event).await?;
    let expected = json!({
        "event": "batch_results_ready",
        "data": {
            "batch_id": "batch-1", "total_essays": 10, "completed_essays": 10,
            "overall_status": "completed_successfully", "processing_duration_seconds": 12.5,
            "phase_results": { "spellcheck": {
                "status": "completed", "completed_count": 10, "failed_count": 0, "processing_time_seconds": null
            } },
            "message": "Batch batch-1 processing completed with 10/10 essays",
            "category": "processing_results", "priority": "high", "action_required": false, "deadline": null,
            "class_id": null, "correlation_id": batch.event_id, "timestamp": "2026-03-02T09:15:01.250000+00:00"
        }
    });
    let heard = hear(&mut listener).await?;
    ensure!(serde_json::from_str::<Value>(&heard)? == expected, "{heard}");

    // The next message on the channel is the next notification: events themselves are not published there.
    belfry.client().post(&assessment(Uuid::new_v4(), &teacher)).await?;
    let heard: Value = serde_json::from_str(&hear(&mut listener).await?)?;
    ensure!(heard["event"] == "batch_assessment_completed", "{heard}");
    ensure!(heard["data"]["timestamp"] == "2026-03-02T09:15:03+00:00", "{heard}");
    belfry.terminate().await
}

#[tokio::test]
async fn what_could_not_be_told_is_told_when_redis_is_back() -> Result<()> {
    let directory = TempDir::new()?;
    let redis = Redis::start(&directory.path().join("redis")).await?;
    let teacher = teacher();
    let settings =
        [("preset", "testing".to_owned()), ("sink.redis.enabled", "true".to_owned()), ("redis.url", redis.url())];
    let belfry = BelfryProcess::start_with(directory.path(), &settings).await?;
    let batch = |number| results_ready(&Batch { teacher: teacher.clone(), ..Batch::number(number) });
    let channel = format!("ws:{teacher}");
    let mut listener = subscribe(&redis, &channel).await?;
    belfry.client().post(&batch(0)).await?;
    hear(&mut listener).await?;

    // Redis is suspended: messages already sent to it may still arrive later, or be sent again.
    redis.pause().await?;
    for number in 1..=10 {
        ensure!(belfry.client().post(&batch(number)).await?.status == 201, "the event is not accepted");
    }
    let began = Instant::now();
    while belfry.readiness().await?["sinks"][0]["breaker"] == "closed" {
        ensure!(began.elapsed() < PATIENCE, "the breaker stays closed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    redis.resume()?;
    // The first may be published twice: it was published, but the position after it may not be recorded yet.
    let mut first = vec!["batch-0".to_owned()];
    while first.len() < 11 {
        let heard: Value = serde_json::from_str(&hear(&mut listener).await?)?;
        let batch = heard["data"]["batch_id"].as_str().context("a batch")?.to_owned();
        if !first.contains(&batch) {
            first.push(batch);
        }
    }
    let expected: Vec<String> = (0..=10).map(|number| format!("batch-{number}")).collect();
    ensure!(first == expected, "{first:?}");

    // Redis is down: whether anything is published after a new subscriber listens depends on the sink's backoff, so only
    // the sink's position is checked.
    redis.kill().await?;
    ensure!(belfry.client().post(&batch(11)).await?.status == 201, "the event is not accepted");
    redis.restart().await?;
    belfry.client().post(&batch(12)).await?;
    let mut position = 0;
    while position < 26 {
        let readiness = belfry.readiness().await?;
        position = readiness["sinks"][0]["position"].as_i64().context("a position")?;
        ensure!(began.elapsed() < PATIENCE, "not published: {readiness}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    belfry.terminate().await
}

/// Posts an event to one replica, and waits for its notification in another replica's feed and in the output of its sink.
/// Returns how long both took.
async fn arrives(
    one: &Replica,
    other: &Replica,
    feed: &mut (impl futures_util::Stream<Item = Result<belfry_tests::FeedItem>> + Unpin),
    number: u64,
) -> Result<Duration> {
    let batch = Batch::number(number);
    let began = Instant::now();
    let posted = one.client().post(&results_ready(&batch)).await?;
    ensure!(posted.status == 201, "{posted:?}");
    let answered = began.elapsed();
    ensure!(answered < Duration::from_secs(1), "the request waited for Redis: {answered:?}");
    let shown = Client::collect(feed, 1).await?;
    ensure!(shown[0].data["data"]["batch_id"] == batch.batch_id, "{shown:?}");
    loop {
        let lines = other.output()?;
        if lines.last().is_some_and(|line| line["data"]["batch_id"] == batch.batch_id && lines.len() % 2 == 0) {
            return Ok(began.elapsed());
        }
        ensure!(began.elapsed() < PATIENCE, "the sink did not write {batch:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn whatever_happens_to_redis_costs_time_and_nothing_else() -> Result<()> {
    let directory = TempDir::new()?;
    let redis = Redis::start(&directory.path().join("redis")).await?;
    let database = shared_postgres().await?.create_database().await?;
    let other = Replica::start(&database, Some(&redis.url()), &[("sink.stdout.enabled", "true".into())]).await?;
    other.wait_until_it_serves("stdout").await?;
    let one = Replica::start(&database, Some(&redis.url()), &[("sink.stdout.enabled", "true".into())]).await?;
    let mut feed = other.client().feed("from=now", None).await?;
    for replica in [&one, &other] {
        replica.wait_for_redis("connected").await?;
    }
    let woken = arrives(&one, &other, &mut feed, 0).await?;

    redis::cmd("FLUSHALL").query_async::<()>(&mut connect(&redis).await?).await?;
    let flushed = arrives(&one, &other, &mut feed, 1).await?;

    // Another client pops the wakes before the holder of the sink's lease does.
    let thief = tokio::spawn({
        let mut connection = connect(&redis).await?;
        connection.set_response_timeout(PATIENCE);
        async move {
            redis::cmd("BLPOP")
                .arg("outbox:wake:stdout")
                .arg(10)
                .query_async::<Option<(String, i64)>>(&mut connection)
                .await
        }
    });
    let stolen = arrives(&one, &other, &mut feed, 2).await?;
    thief.abort();

    // The key of the wakes holds a string instead of a list.
    let mut connection = connect(&redis).await?;
    redis::cmd("DEL").arg("outbox:wake:stdout").query_async::<()>(&mut connection).await?;
    redis::cmd("SET").arg("outbox:wake:stdout").arg("spoilt").query_async::<()>(&mut connection).await?;
    let spoilt = arrives(&one, &other, &mut feed, 3).await?;
    redis::cmd("DEL").arg("outbox:wake:stdout").query_async::<()>(&mut connection).await?;

    redis.pause().await?;
    let paused = arrives(&one, &other, &mut feed, 4).await?;
    let still = other.wait_for_redis("disconnected").await?;
    let without = arrives(&one, &other, &mut feed, 5).await?;
    redis.resume()?;
    let back = other.wait_for_redis("connected").await?;
    one.wait_for_redis("connected").await?;
    let resumed = arrives(&one, &other, &mut feed, 6).await?;

    redis.kill().await?;
    let killed = arrives(&one, &other, &mut feed, 7).await?;
    redis.restart().await?;
    for replica in [&one, &other] {
        replica.wait_for_redis("connected").await?;
    }
    let restarted = arrives(&one, &other, &mut feed, 8).await?;
    println!(
        "woken {woken:?}, flushed {flushed:?}, wakes stolen {stolen:?}, list overwritten {spoilt:?}, paused {paused:?} \
         (noticed after {still:?}, then {without:?}; connected again after {back:?}), resumed {resumed:?}, \
         killed {killed:?}, restarted {restarted:?}"
    );
    for took in [woken, flushed, stolen, spoilt, resumed, restarted] {
        ensure!(took < Duration::from_secs(1), "it took {took:?} although Redis was available");
    }
    for took in [paused, without, killed] {
        ensure!(took < HEARTBEAT, "{took:?}");
    }
    ensure!(other.output()?.len() == 18, "not every entry is written exactly once");
    Ok(())
}

#[tokio::test]
async fn deployments_with_a_prefix_each_do_not_hear_each_other() -> Result<()> {
    let redis = shared_redis().await?;
    let prefix = format!("blue-{}:", Uuid::new_v4());
    let mut ours = subscribe(redis, &format!("{prefix}outbox:wake")).await?;
    let database = shared_postgres().await?.create_database().await?;
    let settings = [("redis.prefix", prefix.clone()), ("sink.stdout.enabled", "true".to_owned())];
    let one = Replica::start(&database, Some(&redis.url()), &settings).await?;
    let other = Replica::start(&database, Some(&redis.url()), &settings).await?;
    for replica in [&one, &other] {
        replica.wait_for_redis("connected").await?;
    }
    other.client().post(&results_ready(&Batch::number(1))).await?;
    // Event and notification.
    ensure!(hear(&mut ours).await? == "2", "the wake does not carry the end of the log");
    let mut connection = connect(redis).await?;
    let subscribed: Vec<(String, i64)> = redis::cmd("PUBSUB")
        .arg("NUMSUB")
        .arg(["wake", "lease", "parked", "rollout"].map(|name| format!("{prefix}outbox:{name}")).to_vec())
        .query_async(&mut connection)
        .await?;
    let listeners: Vec<i64> = subscribed.iter().map(|(_, listeners)| *listeners).collect();
    ensure!(listeners == [3, 2, 2, 2], "the subscribers are not this test and both replicas: {subscribed:?}");
    one.terminate().await?;
    other.terminate().await.map(drop)
}

#[tokio::test]
async fn a_forged_wake_makes_nobody_pass_over_anything() -> Result<()> {
    let directory = TempDir::new()?;
    let redis = Redis::start(&directory.path().join("redis")).await?;
    let database = shared_postgres().await?.create_database().await?;
    let other = Replica::start(&database, Some(&redis.url()), &[("sink.stdout.enabled", "true".into())]).await?;
    other.wait_until_it_serves("stdout").await?;
    let one = Replica::start(&database, Some(&redis.url()), &[("sink.stdout.enabled", "true".into())]).await?;
    let mut feed = other.client().feed("from=now", None).await?;
    for replica in [&one, &other] {
        replica.wait_for_redis("connected").await?;
    }
    let mut connection = connect(&redis).await?;
    let forged = ["9223372036854775807", "1000000", "-1", "0", "1e9", "99999999999999999999", "bell", "", "\u{0}"];
    for (number, forged) in (0..).zip(forged) {
        for _ in 0..50 {
            let mut messages = redis::pipe();
            messages.cmd("PUBLISH").arg("outbox:wake").arg(forged);
            messages.cmd("PUBLISH").arg("outbox:lease").arg(forged);
            messages.cmd("PUBLISH").arg("outbox:rollout").arg(forged);
            messages.cmd("LPUSH").arg("outbox:wake:stdout").arg(forged);
            messages.query_async::<()>(&mut connection).await?;
        }
        let took = arrives(&one, &other, &mut feed, number).await?;
        ensure!(took < Duration::from_millis(1500), "{forged:?}: {took:?}");
    }
    let end = other.readiness().await?["heartbeat"]["log_end"].as_i64().context("the log's end")?;
    ensure!(end == 18, "the end of the log is {end}");
    ensure!(other.output()?.len() == 18, "not every entry is written exactly once");
    Ok(())
}

#[tokio::test]
async fn a_flood_of_forged_wakes_does_not_keep_the_database_busy() -> Result<()> {
    let directory = TempDir::new()?;
    let redis = Redis::start(&directory.path().join("redis")).await?;
    let database = shared_postgres().await?.create_database().await?;
    let replica = Replica::start(&database, Some(&redis.url()), &[]).await?;
    replica.wait_for_redis("connected").await?;
    let mut connection = connect(&redis).await?;
    let calls = async || -> Result<i64> {
        let mut client = sqlx::postgres::PgConnection::connect(&database.url).await?;
        let query = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
        Ok(sqlx::query_scalar(query).fetch_one(&mut client).await?)
    };
    let before = calls().await?;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        let mut messages = redis::pipe();
        for _ in 0..100 {
            messages.cmd("PUBLISH").arg("outbox:wake").arg(i64::MAX);
        }
        messages.query_async::<()>(&mut connection).await?;
    }
    // A session reports its statistics when it is idle.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let transactions = calls().await? - before;
    println!("{transactions} transactions in 5 s of which 3 s were flooded");
    ensure!(transactions < 40, "{transactions} transactions");
    Ok(())
}

#[tokio::test]
async fn redis_is_reached_over_tls_and_strangers_are_not_trusted() -> Result<()> {
    let directory = TempDir::new()?;
    let certificates = Certificates::make(&directory.path().join("certificates"))?;
    let options = RedisOptions { certificates: Some(&certificates), ..Default::default() };
    let redis = Redis::start_with(&directory.path().join("redis"), options).await?;
    let database = shared_postgres().await?.create_database().await?;
    let authority = ("redis.ca_file", certificates.authority().display().to_string());
    let trusting = Replica::start(&database, Some(&redis.url()), &[authority]).await?;
    trusting.wait_for_redis("connected").await?;
    let strange = Replica::start(&database, Some(&redis.url()), &[]).await?;
    wait_for_log(&strange, "Redis is unavailable").await?;
    ensure!(strange.readiness().await?["redis"] == "disconnected", "it trusts an unknown certificate authority");
    Ok(())
}

#[tokio::test]
async fn the_password_of_redis_is_never_told() -> Result<()> {
    const CANARY: &str = "canary-6b1f";
    let directory = TempDir::new()?;
    let redis = Redis::start(&directory.path().join("redis")).await?;
    let database = shared_postgres().await?.create_database().await?;
    let file = directory.path().join("url");
    let with_password = redis.url().replace("redis://", &format!("redis://{CANARY}:{CANARY}@"));
    std::fs::write(&file, format!("{with_password}\n"))?;
    let settings = [("redis.url_file", file.display().to_string()), ("log.level", "debug".to_owned())];
    let replica = Replica::start(&database, None, &settings).await?;
    wait_for_log(&replica, "Redis is unavailable").await?;
    ensure!(!replica.process().log()?.contains(CANARY), "{}", replica.process().log()?);

    // Invalid settings are rejected, and the message does not quote the URL.
    for (url, word) in [(format!("redis://:{CANARY}@"), "redis.url"), (with_password, "redis.ca_file")] {
        let settings = [("redis.url", url), ("redis.ca_file", file.display().to_string())];
        let refused = BelfryProcess::start_with(directory.path(), &settings).await.err().context("it starts")?;
        let text = format!("{refused:#}");
        ensure!(text.contains(word) && !text.contains(CANARY), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn the_rights_that_the_manual_names_are_enough() -> Result<()> {
    let directory = TempDir::new()?;
    let redis = Redis::start(&directory.path().join("redis")).await?;
    let mut connection = connect(&redis).await?;
    let rights = "on >secret resetchannels &outbox:* &ws:* ~outbox:wake:* +publish +subscribe +blpop +lpush +ltrim +expire +ping";
    let mut user = redis::cmd("ACL");
    user.arg("SETUSER").arg("belfry").arg(rights.split_whitespace().collect::<Vec<_>>());
    user.query_async::<()>(&mut connection).await?;
    let database = shared_postgres().await?.create_database().await?;
    let url = redis.url().replace("redis://", "redis://belfry:secret@");
    let sinks = [("sink.redis.enabled", "true".to_owned()), ("sink.stdout.enabled", "true".to_owned())];
    let other = Replica::start(&database, Some(&url), &sinks).await?;
    for sink in ["redis", "stdout"] {
        other.wait_until_it_serves(sink).await?;
    }
    let one = Replica::start(&database, Some(&url), &sinks).await?;
    for replica in [&one, &other] {
        replica.wait_for_redis("connected").await?;
    }
    let mut feed = other.client().feed("from=now", None).await?;
    let mut listener = subscribe(&redis, "ws:teacher-1").await?;
    arrives(&one, &other, &mut feed, 1).await?;
    hear(&mut listener).await?;
    ensure!(other.metric("belfry_wake_seconds_count").await? > 0.0, "it was not woken");
    let refused: redis::Value = redis::cmd("ACL").arg("LOG").query_async(&mut connection).await?;
    ensure!(refused == redis::Value::Array(Vec::new()), "{refused:?}");
    Ok(())
}

async fn wait_for_log(replica: &Replica, words: &str) -> Result<()> {
    let began = Instant::now();
    while !replica.process().log()?.contains(words) {
        ensure!(began.elapsed() < PATIENCE, "{}", replica.process().log()?);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
