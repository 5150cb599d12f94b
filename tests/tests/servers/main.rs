//! The servers that other tests rely on: they start, respond, and restart after a kill. Injected faults behave as
//! documented.

mod proxy;

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use belfry_tests::servers::services::{self, ServicePorts};
use belfry_tests::servers::{
    Certificates, FaultProxy, Kafka, Postgres, PostgresOptions, ProcessId, Redis, RedisOptions, SCRAM_PASSWORD,
    SCRAM_USER, shared_kafka, shared_postgres, shared_redis,
};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn postgres_keeps_what_was_committed_when_it_is_killed() -> Result<()> {
    let directory = TempDir::new()?;
    let began = Instant::now();
    let postgres = Postgres::start(directory.path(), &[("work_mem", "5MB")]).await?;
    println!("PostgreSQL started in {:?}", began.elapsed());
    let database = postgres.create_database().await?;

    let mut client = PgConnection::connect(&database.url).await?;
    let work_mem: String = sqlx::query_scalar("SHOW work_mem").fetch_one(&mut client).await?;
    ensure!(work_mem == "5MB", "{work_mem}");
    sqlx::query("CREATE TABLE kept (number int)").execute(&mut client).await?;
    sqlx::query("INSERT INTO kept VALUES (1)").execute(&mut client).await?;
    sqlx::query("BEGIN").execute(&mut client).await?;
    sqlx::query("INSERT INTO kept VALUES (2)").execute(&mut client).await?;

    let killed = postgres.id()?;
    let children = killed.children();
    ensure!(!children.is_empty(), "the server has no children");
    postgres.kill().await?;
    ensure!(!killed.is_alive() && !children.iter().any(ProcessId::is_alive), "a process survived");
    ensure!(PgConnection::connect(&database.url).await.is_err(), "a server responds");

    let began = Instant::now();
    postgres.restart().await?;
    println!("PostgreSQL came back in {:?}", began.elapsed());
    let mut client = PgConnection::connect(&database.url).await?;
    let kept: Vec<i32> = sqlx::query_scalar("SELECT number FROM kept").fetch_all(&mut client).await?;
    ensure!(kept == [1], "{kept:?}");
    drop(client);
    postgres.stop().await
}

#[tokio::test]
async fn a_standby_follows_and_is_promoted() -> Result<()> {
    let directory = TempDir::new()?;
    let primary = Postgres::start(&directory.path().join("primary"), &[]).await?;
    let database = primary.create_database().await?;
    let began = Instant::now();
    let standby = primary.standby(&directory.path().join("standby")).await?;
    println!("a standby started in {:?}", began.elapsed());

    let mut client = PgConnection::connect(&database.url).await?;
    sqlx::query("CREATE TABLE followed (number int)").execute(&mut client).await?;
    let mut follower = PgConnection::connect(&standby.url(&database.name, "postgres")).await?;
    let began = Instant::now();
    while sqlx::query("SELECT FROM followed").execute(&mut follower).await.is_err() {
        ensure!(began.elapsed() < SOON, "the standby does not follow");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    ensure!(
        sqlx::query("INSERT INTO followed VALUES (1)").execute(&mut follower).await.is_err(),
        "the standby accepts writes"
    );

    primary.kill().await?;
    standby.promote().await?;
    sqlx::query("INSERT INTO followed VALUES (1)").execute(&mut follower).await?;
    Ok(())
}

#[tokio::test]
async fn kafka_keeps_records_when_it_is_killed() -> Result<()> {
    let directory = TempDir::new()?;
    let began = Instant::now();
    let kafka = Kafka::start(directory.path()).await?;
    println!("Kafka started in {:?}", began.elapsed());
    kafka.create_topic("kept", 3, &[("min.insync.replicas", "1"), ("retention.ms", "-1")]).await?;
    for number in 0..10 {
        let (key, payload) = (format!("teacher-{}", number % 4), format!("payload {number}"));
        let headers = [("event_id", payload.as_bytes())];
        kafka.produce("kept", Some(key.as_bytes()), &headers, Some(payload.as_bytes())).await?;
    }
    let (tombstone, _) = kafka.produce("kept", Some(b"teacher-1"), &[], None).await?;

    kafka.kill().await?;
    let began = Instant::now();
    kafka.restart().await?;
    println!("Kafka came back in {:?}", began.elapsed());
    let records = kafka.read_topic("kept").await?;
    ensure!(records.len() == 11, "{records:?}");
    let first = records.iter().find(|record| record.payload.as_deref() == Some(b"payload 1")).context("payload 1")?;
    ensure!(first.header("event_id") == Some("payload 1") && first.partition == tombstone, "{first:?}");
    ensure!(first.timestamp_ms.is_some_and(|time| time > 0), "{first:?}");
    // The partition that Java's clients choose: (murmur2("teacher-1") & 0x7fffffff) % 3.
    ensure!(first.partition == java_partition(b"teacher-1", 3), "{first:?}");

    let restarted = kafka.id()?;
    kafka.pause().await?;
    ensure!(restarted.is_stopped(), "it is not suspended");
    kafka.resume()?;
    kafka.delete_topic("kept").await?;
    ensure!(kafka.read_topic("kept").await.is_err(), "the topic is still there");
    let began = Instant::now();
    kafka.stop().await?;
    println!("Kafka stopped in {:?}", began.elapsed());
    Ok(())
}

#[tokio::test]
async fn redis_answers_and_comes_back_empty() -> Result<()> {
    let directory = TempDir::new()?;
    let began = Instant::now();
    let redis = Redis::start(directory.path()).await?;
    println!("Redis started in {:?}", began.elapsed());
    let client = redis::Client::open(redis.url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    redis::cmd("SET").arg("bell").arg("rings").query_async::<()>(&mut connection).await?;

    redis.pause().await?;
    let mut get = redis::cmd("GET");
    let answer = get.arg("bell").query_async::<Option<String>>(&mut connection);
    ensure!(tokio::time::timeout(Duration::from_millis(200), answer).await.is_err(), "it responds while it is paused");
    redis.resume()?;

    redis.kill().await?;
    ensure!(client.get_multiplexed_async_connection().await.is_err(), "a server responds");
    redis.restart().await?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let bell: Option<String> = redis::cmd("GET").arg("bell").query_async(&mut connection).await?;
    ensure!(bell.is_none(), "{bell:?}");
    Ok(())
}

#[tokio::test]
async fn connections_are_encrypted_and_strangers_turned_away() -> Result<()> {
    let directory = TempDir::new()?;
    let certificates = Certificates::make(&directory.path().join("certificates"))?;

    let options = PostgresOptions { certificates: Some(&certificates), ..Default::default() };
    let postgres = Postgres::start_with(&directory.path().join("postgres"), options).await?;
    let database = postgres.create_database().await?;
    let mut client = PgConnection::connect(&database.url).await?;
    let encrypted: bool =
        sqlx::query_scalar("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetch_one(&mut client).await?;
    ensure!(encrypted, "PostgreSQL does not encrypt");
    let plain = format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", postgres.port());
    ensure!(PgConnection::connect(&plain).await.is_err(), "PostgreSQL accepts unencrypted connections");

    let options = RedisOptions { certificates: Some(&certificates), ..Default::default() };
    let redis = Redis::start_with(&directory.path().join("redis"), options).await?;
    let authority =
        redis::TlsCertificates { client_tls: None, root_cert: Some(std::fs::read(certificates.authority())?) };
    let client = redis::Client::build_with_tls(redis.url(), authority)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    redis::cmd("PING").query_async::<()>(&mut connection).await?;

    let kafka = Kafka::start_secured(&directory.path().join("kafka"), &certificates).await?;
    kafka.create_topic("sealed", 1, &[]).await?;
    let authority = certificates.authority().display().to_string();
    let producer = |password: &str| -> Result<FutureProducer> {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", kafka.bootstrap()).set("security.protocol", "SASL_SSL");
        client.set("ssl.ca.location", &authority).set("sasl.mechanism", "SCRAM-SHA-512");
        client.set("sasl.username", SCRAM_USER).set("sasl.password", password).set("message.timeout.ms", "3000");
        Ok(client.create()?)
    };
    let record = || FutureRecord::to("sealed").key("key").payload("payload");
    let sent = producer(SCRAM_PASSWORD)?.send(record(), SOON).await;
    ensure!(sent.is_ok(), "{sent:?}; see {}", std::fs::read_to_string(kafka.log())?);
    ensure!(producer("guessed")?.send(record(), SOON).await.is_err(), "a wrong password is accepted");
    ensure!(kafka.read_topic("sealed").await?.len() == 1, "the topic does not hold one record");
    Ok(())
}

#[tokio::test]
async fn services_run_on_and_are_found_again() -> Result<()> {
    let directory = TempDir::new()?;
    let tried = try_services(&directory.path().join("services")).await;
    // They would outlive a failed test.
    services::stop(&directory.path().join("services"), |_| {}).await?;
    tried
}

async fn try_services(directory: &Path) -> Result<()> {
    let started = services::start(directory, ServicePorts::default(), |_| {}).await?;
    let mut client = PgConnection::connect(&started.store_url).await?;
    sqlx::query("CREATE TABLE kept (number int)").execute(&mut client).await?;
    drop(client);

    let found = services::start(directory, ServicePorts::default(), |_| {}).await?;
    ensure!(found.exports() == started.exports(), "{found:?}, not {started:?}");
    let other = ServicePorts { redis: Some(FaultProxy::free_port()?), ..Default::default() };
    let refused = services::start(directory, other, |_| {}).await;
    ensure!(
        refused.is_err_and(|error| error.to_string().contains("make services-stop")),
        "another port is accepted while it runs"
    );

    let said = Mutex::new(Vec::new());
    services::stop(directory, |text| said.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned())).await?;
    let said = said.into_inner().unwrap_or_else(PoisonError::into_inner);
    ensure!(said.len() == 3 && said.iter().all(|text| text.contains("is stopped")), "{said:?}");
    ensure!(PgConnection::connect(&started.store_url).await.is_err(), "PostgreSQL still runs");

    let again = services::start(directory, ServicePorts::default(), |_| {}).await?;
    ensure!(again.exports() == started.exports(), "{again:?}, not {started:?}");
    let mut client = PgConnection::connect(&again.store_url).await?;
    sqlx::query("SELECT FROM kept").execute(&mut client).await?;
    Ok(())
}

#[tokio::test]
async fn servers_die_with_the_process_that_started_them() -> Result<()> {
    let directory = TempDir::new()?;
    let list = directory.path().join("servers");
    // The same program as another process, which runs only the next test.
    let mut parent = Command::new(std::env::current_exe()?)
        .args(["--exact", "shared_servers_for_a_process_that_is_killed", "--nocapture"])
        .env("BELFRY_TEST_LIST_SERVERS", &list)
        .stdout(Stdio::null())
        .spawn()?;
    let began = Instant::now();
    while !list.exists() {
        ensure!(began.elapsed() < Duration::from_secs(120) && parent.try_wait()?.is_none(), "no servers");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let processes: HashMap<u32, ProcessId> = std::fs::read_to_string(&list)?
        .lines()
        .map(|pid| Ok((pid.parse()?, ProcessId::of(pid.parse()?)?)))
        .collect::<Result<_>>()?;
    ensure!(processes.len() == 3, "{processes:?}");
    parent.kill()?;
    parent.wait()?;
    for process in processes.values() {
        process.wait_until_gone(SOON).await?;
    }
    Ok(())
}

/// Run on its own, this test checks that the shared servers respond.
#[tokio::test]
async fn shared_servers_for_a_process_that_is_killed() -> Result<()> {
    let (postgres, kafka, redis) = tokio::try_join!(shared_postgres(), shared_kafka(), shared_redis())?;
    let (one, other) = (postgres.create_database().await?, postgres.create_database().await?);
    ensure!(one.name != other.name, "{one:?}");
    let topic = format!("shared-{}", uuid::Uuid::new_v4());
    kafka.create_topic(&topic, 1, &[]).await?;
    ensure!(kafka.read_topic(&topic).await?.is_empty(), "a new topic is not empty");
    redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;

    if let Some(list) = std::env::var_os("BELFRY_TEST_LIST_SERVERS") {
        let (postgres, kafka, redis) = (postgres.pid()?, kafka.id()?.pid(), redis.id()?.pid());
        // Renamed in one step, so that no reader sees part of it.
        let written = std::path::Path::new(&list).with_extension("new");
        std::fs::write(&written, format!("{postgres}\n{kafka}\n{redis}\n"))?;
        std::fs::rename(written, list)?;
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
    Ok(())
}

/// Returns the partition that Kafka's own clients choose for a key; an independent implementation.
fn java_partition(key: &[u8], partitions: u32) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ u32::try_from(key.len()).unwrap_or(u32::MAX);
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^= hash >> 15;
    i32::try_from((hash & 0x7fff_ffff) % partitions).unwrap_or(-1)
}
