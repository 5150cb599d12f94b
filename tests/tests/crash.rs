//! Clients post numbered events while the service is killed with SIGKILL at random moments and started again.
//!
//! Whoever gets no answer posts again. In the end every event has its notification exactly once in the log, and a reader
//! that resumed by Last-Event-ID has seen each at least once, first appearances in order. `make soak` chooses rounds and
//! seed.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use belfry_tests::{Batch, BelfryProcess, Client, FeedItem, results_ready};
use futures_util::StreamExt;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

/// Senders of single events, and of several lines at once.
const SINGLE: usize = 6;
const STREAMING: usize = 2;
const LINES: u64 = 20;
/// The longest that a service lives.
const LIFE_MS: u64 = 120;
/// Of a hundred kills, so many must meet requests under way.
const IN_FLIGHT_PERCENT: usize = 80;

/// What a step may take at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// What everybody shares.
struct Shared {
    /// A client of the service as it is now; none while it is down.
    service: watch::Receiver<Option<Client>>,
    next: AtomicU64,
    in_flight: AtomicUsize,
    acknowledged: Mutex<Vec<u64>>,
    finished: AtomicBool,
    /// How far the reader has come.
    read: AtomicI64,
}

impl Shared {
    /// A client of the service as it is now. Waits while it is down.
    async fn client(&self) -> Result<Client> {
        let mut service = self.service.clone();
        let up = service.wait_for(Option::is_some).await?;
        up.clone().context("a client")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_doubled_by_kills() -> Result<()> {
    let rounds = from_environment("BELFRY_CRASH_ROUNDS", 100);
    let mut random = Random(from_environment("BELFRY_CRASH_SEED", 1));
    let directory = TempDir::new()?;
    let (up, service) = watch::channel(None);
    let shared = Arc::new(Shared {
        service,
        next: AtomicU64::new(0),
        in_flight: AtomicUsize::new(0),
        acknowledged: Mutex::default(),
        finished: AtomicBool::new(false),
        read: AtomicI64::new(0),
    });
    let mut senders = JoinSet::new();
    for number in 0..SINGLE + STREAMING {
        let lines = if number < SINGLE { 1 } else { LINES };
        senders.spawn(send(shared.clone(), lines));
    }
    let reader = tokio::spawn(read(shared.clone()));

    let mut hits = 0;
    for _ in 0..rounds {
        let service = BelfryProcess::start(directory.path()).await?;
        up.send_replace(Some(service.client()));
        tokio::time::sleep(Duration::from_micros(random.below(LIFE_MS * 1000))).await;
        hits += usize::from(shared.in_flight.load(Ordering::SeqCst) > 0);
        service.kill().await?;
        up.send_replace(None);
    }
    let service = BelfryProcess::start(directory.path()).await?;
    up.send_replace(Some(service.client()));
    shared.finished.store(true, Ordering::SeqCst);
    let all_sent = async {
        while let Some(sender) = senders.join_next().await {
            sender??;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, all_sent).await.context("the senders did not come to an end")??;
    let acknowledged = shared.acknowledged.lock().expect("no sender panicked").clone();
    let log = whole_log(&service.client(), acknowledged.len()).await?;
    let end = log.last().context("events")?.position;
    let caught_up = async {
        while shared.read.load(Ordering::SeqCst) < end {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, caught_up).await.context("the reader did not come to the end of the log")?;
    service.terminate().await?;
    let seen = reader.await??;

    println!(
        "{rounds} kills, {hits} of them with requests in flight; {} events acknowledged, {} entries seen by the reader",
        acknowledged.len(),
        seen.len()
    );
    ensure!(hits * 100 >= rounds as usize * IN_FLIGHT_PERCENT, "only {hits} of {rounds} kills met requests in flight");
    each_event_is_notified_once(&acknowledged, &log)?;
    the_reader_missed_nothing(&log, &seen)
}

/// Post until all is over; what got no answer is posted again, for as long as it takes.
async fn send(shared: Arc<Shared>, lines: u64) -> Result<()> {
    while !shared.finished.load(Ordering::SeqCst) {
        let first = shared.next.fetch_add(lines, Ordering::SeqCst);
        let numbers: Vec<u64> = (first..first + lines).collect();
        loop {
            let client = shared.client().await?;
            shared.in_flight.fetch_add(1, Ordering::SeqCst);
            let answered = post(&client, &numbers).await;
            shared.in_flight.fetch_sub(1, Ordering::SeqCst);
            match answered {
                Ok(()) => break,
                Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
        shared.acknowledged.lock().expect("no sender panicked").extend(numbers);
    }
    Ok(())
}

async fn post(client: &Client, numbers: &[u64]) -> Result<()> {
    let event = |number: &u64| results_ready(&Batch::number(*number));
    if let [number] = numbers {
        let posted = client.post(&event(number)).await?;
        ensure!([200, 201].contains(&posted.status.as_u16()), "{posted:?}");
        return Ok(());
    }
    let body: String = numbers.iter().map(|number| format!("{}\n", event(number))).collect();
    for line in client.post_lines(body).await? {
        ensure!(["accepted", "duplicate"].contains(&line["status"].as_str().unwrap_or_default()), "{line}");
    }
    Ok(())
}

/// Follow the feed through all kills; gives what was seen, in the order in which it was.
async fn read(shared: Arc<Shared>) -> Result<Vec<(i64, Value)>> {
    let mut seen: Vec<(i64, Value)> = Vec::new();
    loop {
        let last = seen.last().map(|(position, _)| *position);
        let Ok(mut feed) = shared.client().await?.feed("from=beginning", last).await else {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        };
        loop {
            match feed.next().await {
                Some(Ok(FeedItem { position, kind, data, .. })) if kind == "notification" => {
                    seen.push((position, data));
                    shared.read.store(position, Ordering::SeqCst);
                }
                // The end of the service in good order is the end of the test.
                Some(Ok(_)) => return Ok(seen),
                Some(Err(_)) | None => break,
            }
        }
    }
}

async fn whole_log(client: &Client, events: usize) -> Result<Vec<FeedItem>> {
    let mut feed = client.feed("from=beginning", None).await?;
    let log = Client::collect(&mut feed, events).await?;
    // Everything is acknowledged, so nothing more may come.
    let more = tokio::time::timeout(Duration::from_millis(300), feed.next()).await;
    ensure!(more.is_err(), "the log has more notifications than events: {more:?}");
    Ok(log)
}

fn each_event_is_notified_once(acknowledged: &[u64], log: &[FeedItem]) -> Result<()> {
    let mut count: HashMap<Uuid, usize> = HashMap::new();
    for item in log {
        let source = item.data["metadata"]["belfry"]["source_event_id"].as_str().context("a cause")?;
        *count.entry(source.parse()?).or_default() += 1;
    }
    for number in acknowledged {
        let times = count.get(&Batch::number(*number).event_id).copied().unwrap_or(0);
        ensure!(times == 1, "event {number} was acknowledged and is notified {times} times");
    }
    Ok(())
}

fn the_reader_missed_nothing(log: &[FeedItem], seen: &[(i64, Value)]) -> Result<()> {
    let mut first_appearances = BTreeMap::new();
    let mut highest = 0;
    for (position, message) in seen {
        if first_appearances.insert(*position, message).is_none() {
            ensure!(*position > highest, "position {position} first appeared after {highest}");
            highest = *position;
        }
    }
    for FeedItem { position, data, .. } in log {
        let shown = first_appearances.remove(position);
        ensure!(shown == Some(data), "the reader missed position {position}, or saw something else there");
    }
    ensure!(first_appearances.is_empty(), "the reader saw what is not in the log: {first_appearances:?}");
    Ok(())
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// SplitMix64: the same seed, the same moments.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
