//! Peak memory of a service with all limits at their defaults: clients send large bodies, send bodies byte by byte, or
//! do not read the responses, while the service catches up with large events.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use belfry_tests::{Batch, BelfryProcess, results_ready};
use rdkafka::producer::Producer;
use serde_json::Value;
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::figures::Figures;
use crate::http::Connection;
use crate::relay::{produce, producer};
use crate::servers::Servers;

/// Number of clients of each kind.
const SENDING: u64 = 40;
const DRIPPING: usize = 12;
const NOT_READING: usize = 12;
/// Number of events of about 0.9 MB: on the topic, and in a body.
const BACKLOG: u64 = 2000;
const IN_A_BODY: u64 = 15;
/// Pause of a client that was rejected.
const AGAIN: Duration = Duration::from_millis(50);
const NOT_READ_FOR: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) async fn measure(figures: &mut Figures) -> Result<()> {
    let servers = Servers::start().await?;
    let (url, pool) = servers.database().await?;
    let (topic, notifications) = (servers.topic().await?, servers.topic().await?);
    fill_topic(&servers, &topic).await?;
    let settings = [
        ("store.url", url),
        ("kafka.brokers", servers.kafka.bootstrap()),
        ("kafka.topics", format!("[\"{topic}\"]")),
        ("kafka.start_at", "earliest".to_owned()),
        ("notification.topic", notifications),
        ("sink.kafka.enabled", "true".to_owned()),
        ("redis.url", servers.redis.url()),
    ];
    let directory = TempDir::new()?;
    let service = BelfryProcess::start_with(directory.path(), &settings).await?;
    let answered = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for number in 0..SENDING {
        clients.spawn(send(service.http_address().to_owned(), number, answered.clone()));
    }
    for _ in 0..DRIPPING {
        clients.spawn(drip(service.http_address().to_owned()));
    }
    for _ in 0..NOT_READING {
        clients.spawn(ask(service.http_address().to_owned()));
    }
    wait_for_backlog(&pool).await?;
    ensure!(clients.try_join_next().is_none(), "a client failed");
    clients.shutdown().await;
    let peak = service.peak_memory()? >> 20;
    service.terminate().await?;
    let clients = SENDING as usize + DRIPPING + NOT_READING;
    let bodies = answered.load(Ordering::Relaxed);
    ensure!(bodies > 0, "no body was answered");
    figures.add(
        &format!("memory, {clients} hostile clients alongside {BACKLOG} events of 0.9 MB from Kafka"),
        format!("at most {peak} MiB resident"),
        format!("{bodies} bodies of {IN_A_BODY} such events answered meanwhile"),
        "< 512 MiB",
    );
    Ok(())
}

/// Returns an event that takes several times as much memory once it is parsed.
fn large(number: u64) -> Value {
    let mut event = results_ready(&Batch::number(number));
    event["data"]["padding"] = (0..9_500).map(|line| format!("{:>90}", line * (number + 1))).collect();
    event
}

async fn fill_topic(servers: &Servers, topic: &str) -> Result<()> {
    let producer = producer(&servers.kafka.bootstrap(), Arc::default())?;
    for number in 0..BACKLOG {
        let (key, payload) = (number.to_string(), large(number).to_string());
        produce(&producer, topic, &key, payload.as_bytes()).await?;
    }
    Ok(producer.flush(Duration::from_secs(60))?)
}

/// Posts large bodies, one after the other. Most are rejected while there is no room for them.
async fn send(address: String, client: u64, answered: Arc<AtomicUsize>) -> Result<()> {
    for round in 1.. {
        let first = (client + 1) * 1_000_000 + round * IN_A_BODY;
        let body: String = (first..first + IN_A_BODY).map(|number| format!("{}\n", large(number))).collect();
        let Ok(mut connection) = Connection::open(&address).await else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        // A rejection may arrive before everything is sent, and closes the connection.
        if let Ok((200, _)) = connection.post("application/x-ndjson", body.as_bytes()).await {
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Announces a large body and sends it byte by byte, repeatedly.
async fn drip(address: String) -> Result<()> {
    let head = "POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 15000000\r\n\r\n";
    loop {
        let mut stream = TcpStream::connect(&address).await?;
        let mut sent = stream.write_all(head.as_bytes()).await;
        while sent.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
            sent = stream.write_all(b" ").await;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Requests all notifications and reads none.
async fn ask(address: String) -> Result<()> {
    loop {
        let mut stream = TcpStream::connect(&address).await?;
        // The connection may be closed already, to make room for another.
        let _ = stream.write_all(b"GET /v1/feed?from=beginning HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        tokio::time::sleep(NOT_READ_FOR).await;
    }
}

async fn wait_for_backlog(pool: &PgPool) -> Result<()> {
    let began = Instant::now();
    let read = "SELECT coalesce(sum(next_offset), 0)::bigint FROM belfry.consumer_position";
    while sqlx::query_scalar::<_, i64>(read).fetch_one(pool).await? < BACKLOG as i64 {
        ensure!(began.elapsed() < PATIENCE, "the backlog is not processed after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
