//! Clients that are slow, numerous or large: they lock no other client out, and their use of resources is bounded.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use belfry_tests::servers::Postgres;
use belfry_tests::{Batch, BelfryProcess, Client, eventually, results_ready};
use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Number of connections of each kind that send half a request.
const HALF_SENT: usize = 1200;
/// Time limit of any operation while these connections are open.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time limit of the whole test, which takes a fifth of this.
const LOCKED_OUT: Duration = Duration::from_secs(90);

/// Raises the limit of file descriptors: this process holds the clients' ends of all connections.
fn raise_descriptors() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

async fn start(directory: &Path, settings: &[(&str, &str)]) -> Result<BelfryProcess> {
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    BelfryProcess::start_with(directory, &settings).await
}

/// Opens a connection and sends this text.
async fn half_sent(address: &str, sent: &str) -> Result<TcpStream> {
    let mut stream = timeout(PATIENCE, TcpStream::connect(address)).await.context("no connection")??;
    // The server may already have closed it to make room for others.
    let _ = stream.write_all(sent.as_bytes()).await;
    Ok(stream)
}

/// Reads until the connection is closed. Returns the text, and the time until it was closed.
async fn until_closed(stream: &mut TcpStream) -> Result<(String, Duration)> {
    let began = Instant::now();
    let mut bytes = Vec::new();
    // A connection that is cut off ends with an error, which counts as closed too.
    let ended = timeout(Duration::from_secs(30), stream.read_to_end(&mut bytes)).await;
    let _ = ended.context("it is not closed")?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), began.elapsed()))
}

async fn closed(belfry: &BelfryProcess, listener: &str, reason: &str) -> Result<u64> {
    let name = format!("belfry_connections_closed_total{{listener=\"{listener}\",reason=\"{reason}\"}} ");
    let metrics = timeout(PATIENCE, belfry.metrics()).await.context("the metrics endpoint does not respond")??;
    Ok(metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0))
}

/// Checks that `/livez`, a post and a feed work.
async fn all_goes_on(belfry: &BelfryProcess, number: u64) -> Result<()> {
    let began = Instant::now();
    let live = timeout(PATIENCE, reqwest::get(format!("{}/livez", belfry.ops_url()))).await;
    ensure!(live.context("/livez does not respond")??.status() == 200);
    let client = belfry.client();
    let mut feed = timeout(PATIENCE, client.feed("from=now", None)).await.context("no feed")??;
    let posted = timeout(PATIENCE, client.post(&results_ready(&Batch::number(number)))).await;
    ensure!(posted.context("a post is not answered")??.status == 201);
    let item = timeout(PATIENCE, Client::collect(&mut feed, 1)).await.context("the feed shows nothing")??;
    ensure!(item[0].kind == "notification", "{item:?}");
    println!("/livez, a post and a feed: {:?}", began.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn half_sent_requests_lock_no_one_out() -> Result<()> {
    // A locked-out client waits for a long time.
    timeout(LOCKED_OUT, half_sent_requests()).await.context("a client is locked out")?
}

async fn half_sent_requests() -> Result<()> {
    raise_descriptors()?;
    let directory = TempDir::new()?;
    // The descriptor limit of most systems, and time limits so long that they free no connection.
    std::fs::write(
        directory.path().join("belfry.toml"),
        "[http]\nhead_timeout_ms = 600000\nbody_timeout_ms = 600000\n",
    )?;
    let wrapper = ["prlimit", "--nofile=1024:1024"].map(str::to_owned);
    let belfry = BelfryProcess::start_under(directory.path(), &wrapper).await?;
    let ops = belfry.ops_url().trim_start_matches("http://").to_owned();
    let head = "POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-len";
    let body = "POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n{\"event_id\":";
    let mut held = Vec::new();
    for (address, sent) in [
        (belfry.http_address(), head),
        (ops.as_str(), "GET /livez HTTP/1.1\r\nhost: loc"),
        (belfry.http_address(), body),
    ] {
        for _ in 0..HALF_SENT {
            held.push(half_sent(address, sent).await?);
        }
        all_goes_on(&belfry, held.len() as u64).await?;
    }
    ensure!(closed(&belfry, "http", "crowded").await? > 0 && closed(&belfry, "ops", "crowded").await? > 0);
    // Clients that have sent half a request do not delay shutdown either.
    let began = Instant::now();
    belfry.terminate().await?;
    println!("stopped after {:?}", began.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_head_a_slow_body_and_an_idle_connection_end() -> Result<()> {
    let directory = TempDir::new()?;
    let times = [("http.head_timeout_ms", "1000"), ("http.body_timeout_ms", "1500"), ("http.idle_timeout_ms", "2000")];
    let belfry = start(directory.path(), &times).await?;
    let address = belfry.http_address().to_owned();
    let (text, after) = until_closed(&mut half_sent(&address, "GET /v1/feed HT").await?).await?;
    ensure!(text.is_empty() && after < Duration::from_secs(4), "{after:?}: {text}");

    let idle = "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let (text, after) = until_closed(&mut half_sent(&address, idle).await?).await?;
    ensure!(text.starts_with("HTTP/1.1 200") && after > Duration::from_secs(1), "{after:?}");

    // Single bytes at intervals are too slow as well.
    let head = "POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n";
    let mut dripping = half_sent(&address, head).await?;
    let began = Instant::now();
    let mut answer = vec![0; 1000];
    let answer = loop {
        dripping.write_all(b" ").await?;
        if let Ok(read) = timeout(Duration::from_millis(200), dripping.read(&mut answer)).await {
            break String::from_utf8_lossy(&answer[..read?]).into_owned();
        }
        ensure!(began.elapsed() < Duration::from_secs(6), "the request is never ended");
    };
    ensure!(answer.starts_with("HTTP/1.1 408") && answer.contains("application/problem+json"), "{answer}");
    for reason in ["slow-head", "slow-body", "idle"] {
        ensure!(closed(&belfry, "http", reason).await? > 0, "{reason} is not counted");
    }
    belfry.terminate().await
}

/// Returns an event whose notification is large.
fn large(number: u64) -> Value {
    results_ready(&Batch { batch_id: "b".repeat(15_000), ..Batch::number(number) })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_is_not_read_is_closed_and_its_place_is_free() -> Result<()> {
    let directory = TempDir::new()?;
    let belfry = start(directory.path(), &[("http.read_timeout_ms", "1000"), ("http.max_feeds", "1")]).await?;
    let client = belfry.client();
    for first in (0..1500).step_by(250) {
        client
            .post_lines((first..first + 250).map(|number| format!("{}\n", large(number))).collect::<String>())
            .await?;
    }
    let request = "GET /v1/feed?from=beginning HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut unread = half_sent(belfry.http_address(), request).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    eventually(
        "the feed takes the only place",
        async || Ok(client.feed("from=now", None).await.err().map(|error| error.to_string())),
        |refused| refused.as_ref().is_some_and(|refused| refused.contains("503")),
    )
    .await?;
    let began = Instant::now();
    eventually("its place is free", async || Ok(client.feed("from=now", None).await.is_ok()), |free| *free).await?;
    ensure!(began.elapsed() < Duration::from_secs(8), "only after {:?}", began.elapsed());
    ensure!(closed(&belfry, "http", "unread").await? == 1);
    let (text, _) = until_closed(&mut unread).await?;
    ensure!(text.matches("event: notification").count() < 1500, "all of it was sent to a client that does not read");
    belfry.terminate().await
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_take_bounded_memory() -> Result<()> {
    let directory = TempDir::new()?;
    let belfry = start(directory.path(), &[]).await?;
    println!("{} MiB at the start", belfry.peak_memory()? >> 20);
    let body = |first: u64| -> String {
        (first..first + 15)
            .map(|number| {
                let mut event = results_ready(&Batch::number(number));
                event["data"]["padding"] = (0..10_000).map(|n| format!("{:>90}", n * number)).collect::<Value>();
                format!("{event}\n")
            })
            .collect()
    };
    let url = format!("{}/v1/events", belfry.client().url());
    let post = |number: u64| {
        let request = reqwest::Client::new().post(&url).header("content-type", "application/x-ndjson");
        async move { Ok::<_, anyhow::Error>(request.body(body(number * 15)).send().await?.status().as_u16()) }
    };
    let statuses = join_all((0..16).map(post)).await.into_iter().collect::<Result<Vec<_>>>()?;
    let peak = belfry.peak_memory()? >> 20;
    println!("{peak} MiB at the peak; {statuses:?}");
    ensure!(statuses.contains(&200) && statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    ensure!(peak < 512, "{peak} MiB");
    belfry.terminate().await
}

/// A monitoring system may check a replica at any rate, and this does not keep the database busy.
#[tokio::test(flavor = "multi_thread")]
async fn readiness_queries_the_database_once_a_second_however_often_it_is_called() -> Result<()> {
    const SECONDS: u64 = 3;
    let directory = TempDir::new()?;
    let postgres = Postgres::start(&directory.path().join("postgres"), &[("log_statement", "all")]).await?;
    let url = postgres.create_database().await?.url;
    let belfry = start(directory.path(), &[("store.url", &url)]).await?;
    let log = postgres.log();
    let queries =
        || Ok::<_, anyhow::Error>(std::fs::read_to_string(&log)?.matches("up_to FROM belfry.retired").count());
    // Other tasks make the same query.
    let before = queries()?;
    tokio::time::sleep(Duration::from_secs(SECONDS)).await;
    let of_others = queries()? - before;
    let (before, began) = (queries()?, Instant::now());
    let ready = format!("{}/readyz", belfry.ops_url());
    let call = || async {
        let (client, mut calls) = (reqwest::Client::new(), 0);
        while began.elapsed() < Duration::from_secs(SECONDS) {
            ensure!(client.get(&ready).send().await?.status() == 200);
            calls += 1;
        }
        Ok(calls)
    };
    let calls: u64 = join_all((0..4).map(|_| call())).await.into_iter().sum::<Result<u64>>()?;
    let all = queries()? - before;
    let queries = all.saturating_sub(of_others);
    println!("{calls} calls, {queries} queries more than the {of_others} without calls");
    ensure!(
        calls > 100 && all > 0 && queries as u64 <= SECONDS + 2,
        "{calls} calls, {queries} queries in addition to {of_others}"
    );
    belfry.terminate().await?;
    postgres.stop().await
}
