//! Clients that post numbered events and retry unanswered ones; and a reader that resumes with Last-Event-ID.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use belfry_tests::{Batch, BelfryProcess, Client, FeedItem, results_ready};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use uuid::Uuid;

/// Number of senders of single events, and of senders of several lines at once.
const SINGLE: usize = 6;
const STREAMING: usize = 2;
const LINES: u64 = 20;

/// Time limit for a step.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// State shared by senders and reader.
struct Shared {
    /// A client of the current service; `None` while it is down.
    service: watch::Receiver<Option<Client>>,
    next: AtomicU64,
    in_flight: AtomicUsize,
    refused: AtomicUsize,
    acknowledged: Mutex<Vec<u64>>,
    finished: AtomicBool,
    /// The last position that the reader has read.
    read: AtomicI64,
}

impl Shared {
    /// Returns a client of the current service. Waits while it is down.
    async fn client(&self) -> Result<Client> {
        let mut service = self.service.clone();
        let up = service.wait_for(Option::is_some).await?;
        up.clone().context("a client")
    }
}

/// Senders and a reader of one service, which may be down or fail temporarily.
pub(crate) struct Load {
    shared: Arc<Shared>,
    up: watch::Sender<Option<Client>>,
    senders: JoinSet<Result<()>>,
    reader: JoinHandle<Result<Vec<(i64, Value)>>>,
}

/// The result of a load.
pub(crate) struct Summary {
    /// Number of acknowledged events.
    pub(crate) acknowledged: usize,
    /// Number of entries that the reader saw, including repetitions.
    pub(crate) seen: usize,
}

impl Load {
    /// Starts senders and a reader that wait for a service.
    pub(crate) fn start() -> Self {
        let (up, service) = watch::channel(None);
        let shared = Arc::new(Shared {
            service,
            next: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
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
        Self { shared, up, senders, reader }
    }

    /// Sets the current service; `None` while it is down.
    pub(crate) fn serve(&self, service: Option<Client>) {
        self.up.send_replace(service);
    }

    /// Returns the number of requests without an answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::SeqCst)
    }

    /// Returns the number of failed requests.
    pub(crate) fn refused(&self) -> usize {
        self.shared.refused.load(Ordering::SeqCst)
    }

    /// Returns the number of acknowledged events.
    pub(crate) fn acknowledged(&self) -> usize {
        self.shared.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits until everything begun is acknowledged, stops the service, and checks the log: each acknowledged event has
    /// its notification exactly once, and the reader has seen each, first appearances in order.
    pub(crate) async fn finish(mut self, service: BelfryProcess) -> Result<Summary> {
        self.serve(Some(service.client()));
        self.shared.finished.store(true, Ordering::SeqCst);
        let all_sent = async {
            while let Some(sender) = self.senders.join_next().await {
                sender??;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, all_sent).await.context("the senders did not finish")??;
        let acknowledged = self.shared.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let log = whole_log(&service.client(), acknowledged.len()).await?;
        let end = log.last().context("events")?.position;
        let caught_up = async {
            while self.shared.read.load(Ordering::SeqCst) < end {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, caught_up).await.context("the reader did not reach the end of the log")?;
        service.terminate().await?;
        let seen = self.reader.await??;
        each_event_is_notified_once(&acknowledged, &log)?;
        the_reader_missed_nothing(&log, &seen)?;
        Ok(Summary { acknowledged: acknowledged.len(), seen: seen.len() })
    }
}

/// Posts until the load is finished. Retries unanswered events until they are acknowledged.
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
                Err(_) => {
                    shared.refused.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        }
        shared.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).extend(numbers);
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

/// Follows the feed through all kills. Returns the items in the order in which they were seen.
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
                // A clean end of the service is the end of the test.
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
    let more = timeout(Duration::from_millis(300), feed.next()).await;
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
        ensure!(times == 1, "event {number} was acknowledged and notified {times} times");
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
    ensure!(first_appearances.is_empty(), "the reader saw entries that are not in the log: {first_appearances:?}");
    Ok(())
}
