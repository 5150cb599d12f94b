//! The proxy that injects network faults.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use belfry_tests::servers::{Direction, FaultProxy, Kafka, shared_postgres};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::SOON;

#[tokio::test]
async fn a_broker_behind_a_proxy_is_reached_through_it() -> Result<()> {
    let directory = TempDir::new()?;
    let (port, advertised) = (FaultProxy::free_port()?, FaultProxy::free_port()?);
    let kafka = Kafka::start_behind(directory.path(), port, advertised).await?;
    let proxy = FaultProxy::start_at(advertised, port).await?;
    kafka.create_topic("behind", 1, &[]).await?;
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .set("message.timeout.ms", "1500")
        .set("reconnect.backoff.max.ms", "100")
        .create()?;
    let record = || FutureRecord::to("behind").key("key").payload("payload");
    ensure!(producer.send(record(), SOON).await.is_ok(), "the record is not sent through the proxy");
    proxy.cut().await?;
    ensure!(producer.send(record(), SOON).await.is_err(), "the record is sent although the connection is cut");
    ensure!(kafka.read_topic("behind").await?.len() == 1, "the topic cannot be read past the proxy");
    proxy.heal().await?;
    ensure!(producer.send(record(), SOON).await.is_ok(), "the record is not sent after the proxy is healed");

    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create()?;
    let metadata = consumer.fetch_metadata(None, SOON)?;
    ensure!(
        metadata.brokers().iter().all(|broker| broker.port() == i32::from(advertised)),
        "the broker advertises another port"
    );
    Ok(())
}

#[tokio::test]
async fn an_answer_to_commit_is_lost_but_not_the_commit() -> Result<()> {
    let postgres = shared_postgres().await?;
    let database = postgres.create_database().await?;
    let proxy = FaultProxy::start(postgres.port()).await?;
    let mut client = PgConnection::connect(&database.url_through(proxy.port(), "postgres")).await?;
    sqlx::query("CREATE TABLE marks (number int)").execute(&mut client).await?;

    proxy.cut_before_answer_with(b"COMMIT", b"COMMIT");
    let mut transaction = client.begin().await?;
    sqlx::query("INSERT INTO marks VALUES (1)").execute(&mut *transaction).await?;
    let committed = transaction.commit().await;
    ensure!(committed.is_err(), "the client got the answer");
    proxy.wait_until_tripped(1, SOON).await?;

    let mut direct = PgConnection::connect(&database.url).await?;
    let marks: i64 = sqlx::query_scalar("SELECT count(*) FROM marks").fetch_one(&mut direct).await?;
    ensure!(marks == 1, "{marks} rows");
    // The fault occurs only once.
    let mut client = PgConnection::connect(&database.url_through(proxy.port(), "postgres")).await?;
    let mut transaction = client.begin().await?;
    sqlx::query("INSERT INTO marks VALUES (2)").execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}

#[tokio::test]
async fn a_proxy_delays_hangs_cuts_and_resets() -> Result<()> {
    let echo = echo_server().await?;
    let proxy = FaultProxy::start(echo).await?;
    let connect = || TcpStream::connect(("127.0.0.1", proxy.port()));

    let mut client = connect().await?;
    ensure!(ask(&mut client, b"hello").await? == b"hello", "no echo");

    proxy.delay(Duration::from_millis(100));
    let began = Instant::now();
    ensure!(ask(&mut client, b"slow").await? == b"slow", "no echo");
    let took = began.elapsed();
    ensure!((200..2000).contains(&took.as_millis()), "{took:?}");
    proxy.delay(Duration::ZERO);

    proxy.hang();
    let mut other = connect().await?;
    let asked = tokio::time::timeout(Duration::from_millis(200), ask(&mut other, b"hung")).await;
    ensure!(asked.is_err(), "{asked:?}");
    proxy.heal().await?;
    let mut echoed = [0; 4];
    other.read_exact(&mut echoed).await?;
    ensure!(echoed == *b"hung", "the held bytes are not delivered");

    proxy.cut().await?;
    let reset = client.read(&mut [0; 1]).await;
    ensure!(is(&reset, std::io::ErrorKind::ConnectionReset), "{reset:?}");
    let refused = connect().await;
    ensure!(is(&refused, std::io::ErrorKind::ConnectionRefused), "{refused:?}");
    proxy.heal().await?;

    let mut client = connect().await?;
    proxy.reset_after(Direction::ToClient, 3);
    client.write_all(b"hello").await?;
    let mut part = Vec::new();
    let reset = client.read_to_end(&mut part).await;
    ensure!(part == b"hel" && is(&reset, std::io::ErrorKind::ConnectionReset), "{part:?}, {reset:?}");
    proxy.wait_until_tripped(1, SOON).await?;

    let mut client = connect().await?;
    proxy.cut_before_answer(b"lost");
    ensure!(ask(&mut client, b"kept").await? == b"kept", "no echo");
    let lost = ask(&mut client, b"lost").await;
    ensure!(lost.is_err(), "{lost:?}");
    proxy.wait_until_tripped(2, SOON).await?;
    Ok(())
}

fn is<T>(result: &std::io::Result<T>, kind: std::io::ErrorKind) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == kind)
}

async fn ask(stream: &mut TcpStream, question: &[u8]) -> Result<Vec<u8>> {
    stream.write_all(question).await?;
    let mut answer = vec![0; question.len()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Starts a server that sends back the bytes it receives. Returns its port.
async fn echo_server() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    Ok(port)
}
