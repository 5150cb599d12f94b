//! Several replicas on one PostgreSQL: they see each other's entries, hand over sinks, and agree on the serving release;
//! immediately with Redis, slightly later without it.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use belfry_tests::servers::{Database, Postgres, Redis, shared_postgres};
use belfry_tests::{Batch, Client, Replica, ServiceDatabase, eventually, results_ready};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

/// Time limit for a replica to detect a change by polling, on a busy machine.
const LOOKED: Duration = Duration::from_millis(1500);

/// Starts a Redis for one test: on a shared one, replicas would also receive the wakes of other tests.
pub(super) async fn redis() -> Result<((Redis, TempDir), String)> {
    let directory = TempDir::new()?;
    let redis = Redis::start(directory.path()).await?;
    let url = redis.url();
    Ok(((redis, directory), url))
}

pub(super) async fn start(database: &Database, redis: Option<&str>) -> Result<Replica> {
    let replica = Replica::start(database, redis, &[("sink.stdout.enabled", "true".into())]).await?;
    if redis.is_some() {
        replica.wait_for_redis("connected").await?;
    }
    Ok(replica)
}

async fn post(replica: &Replica, numbers: Range<u64>) -> Result<()> {
    let client = replica.client();
    for number in numbers {
        let posted = client.post(&results_ready(&Batch::number(number))).await?;
        ensure!(posted.status == 201, "{posted:?}");
    }
    Ok(())
}

/// Posts events to one replica, each after a pause, and waits for them in another replica's feed. Returns how long each
/// took, in ascending order.
async fn from_post_to_feed(
    one: &Replica,
    other: &Replica,
    numbers: Range<u64>,
    pause: Duration,
) -> Result<Vec<Duration>> {
    let mut feed = other.client().feed("from=now", None).await?;
    let client = one.client();
    let mut took = Vec::new();
    for number in numbers {
        tokio::time::sleep(pause).await;
        let batch = Batch::number(number);
        let event = results_ready(&batch);
        let began = Instant::now();
        let (posted, shown) = tokio::join!(client.post(&event), Client::collect(&mut feed, 1));
        took.push(began.elapsed());
        ensure!(posted?.status == 201 && shown?[0].data["data"]["batch_id"] == batch.batch_id, "{batch:?}");
    }
    took.sort();
    Ok(took)
}

/// Returns the batches whose notifications were written.
fn batches(lines: &[Value]) -> Vec<String> {
    let notifications = lines.iter().filter(|line| line["metadata"]["belfry"].is_object());
    notifications.filter_map(|line| line["data"]["batch_id"].as_str().map(str::to_owned)).collect()
}

/// Checks that no batch is missing, and that first appearances are in order.
fn ensure_all_in_order(lines: &[Value], numbers: Range<u64>) -> Result<()> {
    let mut first = Vec::new();
    for batch in batches(lines) {
        if !first.contains(&batch) {
            first.push(batch);
        }
    }
    let expected: Vec<String> = numbers.map(|number| Batch::number(number).batch_id).collect();
    ensure!(first == expected, "{first:?}");
    Ok(())
}

#[tokio::test]
async fn a_feed_shows_at_once_what_another_replica_took() -> Result<()> {
    let database = shared_postgres().await?.create_database().await?;
    let (_redis, url) = redis().await?;
    let (one, other) = (start(&database, Some(&url)).await?, start(&database, Some(&url)).await?);
    from_post_to_feed(&one, &other, 0..20, Duration::ZERO).await?;
    let pause = Duration::from_millis(10);
    let there = from_post_to_feed(&one, &other, 100..200, pause).await?;
    let here = from_post_to_feed(&one, &one, 200..300, pause).await?;
    let (p50, p98) = (there[50], there[98]);
    println!("post → other replica's feed: p50 {p50:?}, p98 {p98:?}; own feed: p50 {:?}, p98 {:?}", here[50], here[98]);
    let (sum, count) =
        (other.metric("belfry_wake_seconds_sum").await?, other.metric("belfry_wake_seconds_count").await?);
    println!("hint → poll: {:.1} ms on average of {count}", sum / count * 1000.0);
    ensure!(p50 < Duration::from_millis(100), "{there:?}");
    ensure!(count > 100.0, "it was not woken");
    Ok(())
}

#[tokio::test]
async fn without_redis_a_feed_shows_it_after_a_look() -> Result<()> {
    let database = shared_postgres().await?.create_database().await?;
    let (one, other) = (start(&database, None).await?, start(&database, None).await?);
    // Long enough for the other replica to back off to its longest poll interval.
    let took = from_post_to_feed(&one, &other, 0..4, Duration::from_millis(2500)).await?;
    println!("post → other replica's feed, without Redis: {took:?}");
    ensure!(took[3] < LOOKED, "{took:?}");
    Ok(())
}

/// Returns the epoch of a lease, and whether the lease is free.
async fn lease(client: &mut PgConnection, name: &str) -> Result<(i64, bool)> {
    let query = "SELECT epoch, lease_until < clock_timestamp() FROM belfry.relay WHERE sink = $1";
    Ok(sqlx::query_as(query).bind(name).fetch_one(client).await?)
}

/// Waits until a lease has another epoch. Returns how long it had no holder.
async fn nobody_serves(client: &mut PgConnection, name: &str, epoch: i64) -> Result<Duration> {
    let began = Instant::now();
    let mut given_back = None;
    loop {
        let (now, free) = lease(client, name).await?;
        if now != epoch {
            return Ok(given_back.map_or(Duration::ZERO, |since: Instant| since.elapsed()));
        }
        if free {
            given_back.get_or_insert_with(Instant::now);
        }
        ensure!(began.elapsed() < Duration::from_secs(20), "no replica acquires the lease");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn hand_over(redis: Option<&str>) -> Result<()> {
    let database = shared_postgres().await?.create_database().await?;
    let one = start(&database, redis).await?;
    one.wait_until_it_serves("stdout").await?;
    let other = start(&database, redis).await?;
    post(&one, 0..20).await?;
    ensure!(!other.serves("stdout").await?, "both replicas serve the sink");
    tokio::time::sleep(Duration::from_millis(2500)).await;

    let mut client = PgConnection::connect(&database.url).await?;
    let (epoch, _) = lease(&mut client, "stdout").await?;
    let began = Instant::now();
    let (written, took) = tokio::join!(one.terminate(), nobody_serves(&mut client, "stdout", epoch));
    let (took, since) = (took?, began.elapsed());
    let how = if redis.is_some() { "woken" } else { "by polling" };
    println!("lease released → acquired, {how}: {took:?}; since SIGTERM {since:?}");
    ensure!(took < Duration::from_secs(1), "{took:?}");
    other.wait_until_it_serves("stdout").await?;
    post(&other, 20..40).await?;
    let mut lines = written?;
    lines.extend(other.terminate().await?);
    ensure_all_in_order(&lines, 0..40)?;
    ensure!(batches(&lines).len() == 40, "a clean hand-over repeated entries: {lines:?}");
    Ok(())
}

#[tokio::test]
async fn a_sink_changes_hands_at_once_when_its_replica_stops() -> Result<()> {
    let (_redis, url) = redis().await?;
    hand_over(Some(&url)).await
}

#[tokio::test]
async fn without_redis_a_sink_changes_hands_after_a_look() -> Result<()> {
    hand_over(None).await
}

/// Waits until a replica has just polled its database. It polls again after five seconds, unless it is woken.
async fn has_just_looked(replica: &Replica) -> Result<()> {
    let age = async || Ok(replica.readiness().await?["heartbeat"]["age_seconds"].as_f64().unwrap_or(f64::MAX));
    // The polls that follow its start are over once it has not polled for two seconds.
    eventually("it is idle", age, |age| *age > 2.0).await?;
    eventually("it polls", age, |age| *age < 0.5).await.map(drop)
}

#[tokio::test]
async fn a_services_database_changes_hands_at_once_when_its_replica_stops() -> Result<()> {
    const LEASE: &str = "postgres:a";
    let server = shared_postgres().await?;
    let (database, service) = (server.create_database().await?, ServiceDatabase::create(server).await?);
    let (_redis, url) = redis().await?;
    // Without sinks: the release of their leases would wake the other replica too.
    let settings = [("source.postgres", ServiceDatabase::setting(&[&service]))];
    let one = Replica::start(&database, Some(&url), &settings).await?;
    service.submit(&results_ready(&Batch::number(0)).to_string(), None).await?;
    service.wait_until_read().await?;
    let other = Replica::start(&database, Some(&url), &settings).await?;
    other.wait_for_redis("connected").await?;
    let mut client = PgConnection::connect(&database.url).await?;
    let (epoch, free) = lease(&mut client, LEASE).await?;
    ensure!(!free && one.metric("belfry_lease_held").await? == 1.0, "the first replica does not read it");

    has_just_looked(&other).await?;
    let (stopped, took) = tokio::join!(one.terminate(), nobody_serves(&mut client, LEASE, epoch));
    let took = took?;
    stopped?;
    println!("lease of a database released → acquired, woken: {took:?}");
    ensure!(took < Duration::from_secs(1), "{took:?}");
    service.submit(&results_ready(&Batch::number(1)).to_string(), None).await?;
    service.wait_until_read().await?;
    ensure!(other.metric("belfry_lease_held").await? == 1.0, "the other replica does not read it");
    other.terminate().await.map(drop)
}

#[tokio::test]
async fn what_is_asked_for_parked_entries_reaches_the_replica_that_serves_the_sink_at_once() -> Result<()> {
    let database = shared_postgres().await?.create_database().await?;
    let (_redis, url) = redis().await?;
    let one = start(&database, Some(&url)).await?;
    one.wait_until_it_serves("stdout").await?;
    let other = start(&database, Some(&url)).await?;
    post(&one, 0..2).await?;
    eventually("all entries are written", async || Ok(one.output()?.len()), |lines| *lines == 4).await?;
    // As if the sink had rejected the second event.
    let mut client = PgConnection::connect(&database.url).await?;
    let planted = "INSERT INTO belfry.parked (sink, topic, event_key, id, error) \
                   SELECT 'stdout', topic, event_key, id, 'planted' FROM belfry.outbox WHERE id = 3";
    sqlx::query(planted).execute(&mut client).await?;

    has_just_looked(&one).await?;
    let began = Instant::now();
    let asked = other.client().post_to("/v1/parked/unpark", &json!({ "position": 3 })).await?;
    ensure!(asked.body["entries"] == 1, "{asked:?}");
    eventually("it is written again", async || Ok(one.output()?.len()), |lines| *lines == 5).await?;
    let took = began.elapsed();
    println!("requested on another replica → done: {took:?}");
    ensure!(took < Duration::from_secs(1), "{took:?}");
    let parked =
        async || Ok(sqlx::query_scalar::<_, i64>("SELECT count(*) FROM belfry.parked").fetch_one(&mut client).await?);
    eventually("it is no longer parked", parked, |parked| *parked == 0).await?;
    Ok(())
}

#[tokio::test]
async fn a_sink_is_taken_over_when_its_lease_has_ended() -> Result<()> {
    let database = shared_postgres().await?.create_database().await?;
    let (_redis, url) = redis().await?;
    let one = start(&database, Some(&url)).await?;
    one.wait_until_it_serves("stdout").await?;
    let other = start(&database, Some(&url)).await?;
    post(&one, 0..20).await?;
    let began = Instant::now();
    let mut lines = one.kill().await?;
    // No replica serves the sink meanwhile, but events are accepted.
    post(&other, 20..40).await?;
    other.wait_until_it_serves("stdout").await?;
    let took = began.elapsed();
    println!("SIGKILL → another replica serves: {took:?}");
    ensure!(took < Duration::from_millis(15_500), "{took:?}");
    lines.extend(other.terminate().await?);
    ensure_all_in_order(&lines, 0..40)
}

/// Checks that the fastest of three rollouts, back and forth, is within the limit. The first one compiles on each replica.
async fn roll_out(redis: Option<&str>, limit: Duration) -> Result<()> {
    let database = shared_postgres().await?.create_database().await?;
    let (one, other) = (start(&database, redis).await?, start(&database, redis).await?);
    let client = one.client();
    let mut feed = other.client().feed("from=now&projector=teacher-results", None).await?;
    let today = client.get("/v1/projectors").await?.body["projectors"][0]["active"].clone();
    let urgent = client.push(belfry_artifacts::URGENT_FAILURES, &json!({})).await?.body;
    let mut events = (0..).map(|number| results_ready(&Batch::number(number)));
    let mut quickest = Duration::MAX;
    for release in [&urgent, &today, &urgent] {
        // Long enough for the other replica to back off to its longest poll interval.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        client.activate("teacher-results", release["release_id"].as_i64().context("a release")?).await?;
        let began = Instant::now();
        let mut serves = async |replica: &Replica| -> Result<bool> {
            replica.client().post(&events.next().context("an event")?).await?;
            let shown = Client::collect(&mut feed, 1).await?;
            Ok(shown[0].data["metadata"]["belfry"]["release"] == release["label"])
        };
        // It serves at once on the replica that activated it, and the other replica's feed shows its label.
        ensure!(serves(&one).await?, "it does not serve where it was activated");
        // On the other replica it serves slightly later.
        while !serves(&other).await? {
            ensure!(began.elapsed() < Duration::from_secs(20), "it never serves: {}", other.process().log()?);
        }
        quickest = quickest.min(began.elapsed());
    }
    let how = if redis.is_some() { "woken" } else { "by polling" };
    println!("rollout → serves on another replica, {how}: {quickest:?}");
    ensure!(quickest < limit, "{quickest:?}");
    Ok(())
}

#[tokio::test]
async fn a_release_that_serves_on_one_replica_serves_on_all() -> Result<()> {
    let (_redis, url) = redis().await?;
    roll_out(Some(&url), Duration::from_millis(1500)).await
}

#[tokio::test]
async fn without_redis_a_release_serves_everywhere_after_a_look() -> Result<()> {
    roll_out(None, Duration::from_secs(3)).await
}

#[tokio::test]
async fn replicas_that_start_together_agree_on_the_first_release() -> Result<()> {
    let database = shared_postgres().await?.create_database().await?;
    let start = || Replica::start(&database, None, &[]);
    let (one, two, three) = tokio::try_join!(start(), start(), start())?;
    let mut client = PgConnection::connect(&database.url).await?;
    let releases: i64 = sqlx::query_scalar("SELECT count(*) FROM belfry.release").fetch_one(&mut client).await?;
    let rollouts: i64 = sqlx::query_scalar("SELECT count(*) FROM belfry.rollout").fetch_one(&mut client).await?;
    ensure!((releases, rollouts) == (1, 1), "{releases} releases, {rollouts} rollouts");
    for (number, replica) in (0..).zip([&one, &two, &three]) {
        let posted = replica.client().post(&results_ready(&Batch::number(number))).await?;
        ensure!(posted.body["notifications"].as_array().is_some_and(|noted| noted.len() == 1), "{posted:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_idle_replica_asks_its_database_twelve_times_a_minute_at_most() -> Result<()> {
    const WATCHED: Duration = Duration::from_secs(30);
    let directory = TempDir::new()?;
    let postgres = Postgres::start(&directory.path().join("postgres"), &[("log_statement", "all")]).await?;
    let redis = Redis::start(&directory.path().join("redis")).await?;
    let database = postgres.create_database().await?;
    let (one, other) = (start(&database, Some(&redis.url())).await?, start(&database, Some(&redis.url())).await?);
    post(&one, 0..5).await?;
    // Activity that follows the posts and the start has ended by then.
    tokio::time::sleep(Duration::from_secs(3)).await;

    let written = || -> Result<usize> {
        let log = std::fs::read_to_string(postgres.log())?;
        let of_belfry = |line: &&str| line.contains("belfry@") && line.contains("LOG:  ");
        Ok(log.lines().filter(of_belfry).filter(|line| line.contains("execute") || line.contains("statement:")).count())
    };
    let mut client = redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
    let mut commands = async || -> Result<u64> {
        let text: String = redis::cmd("INFO").arg("stats").query_async(&mut client).await?;
        let line = text.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        Ok(line.context("a number of commands")?.trim().parse()?)
    };
    let before = (written()?, commands().await?);
    ensure!(before.0 > 0, "no statement is logged");
    tokio::time::sleep(WATCHED).await;
    let (statements, commands) = (written()? - before.0, commands().await? - before.1);
    println!("two idle replicas in {WATCHED:?}: {statements} statements, {commands} Redis commands");
    // A minute has twice as many of both, and two replicas share them: the numbers hold for one replica in a minute.
    ensure!(statements <= 12, "{statements} statements from two replicas in half a minute");
    ensure!(commands <= 60, "{commands} commands from two replicas in half a minute");
    ensure!(
        one.readiness().await?["redis"] == "connected" && other.serves("stdout").await? != one.serves("stdout").await?
    );
    Ok(())
}
