use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fastrand::Rng;
use rdkafka::ClientConfig;
use rdkafka::producer::FutureProducer;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::lane::{Lane, Way};
use super::ledger::Ledger;
use crate::client::use_ring;

/// Concurrent clients, by the way in which their events reach Belfry.
const LANES: [(Way, usize); 3] = [(Way::Http, 8), (Way::Kafka, 3), (Way::Submit, 2)];
/// Time limit for a request before its sender tries another replica.
const REQUEST: Duration = Duration::from_secs(4);
/// Time limit for all submitted events to be acknowledged once the fault is over.
const PATIENCE: Duration = Duration::from_secs(90);

/// Clients that post events while the load is on.
pub struct Load {
    pub(super) shared: Arc<Shared>,
    wanted: watch::Sender<bool>,
    lanes: JoinSet<Result<()>>,
}

/// State shared by the lanes.
pub(super) struct Shared {
    /// The prefix of all keys of this run.
    pub(super) run: String,
    pub(super) ledger: Arc<Ledger>,
    pub(super) http: reqwest::Client,
    /// A topic that the replicas read.
    pub(super) input: String,
    pub(super) producer: FutureProducer,
    /// The database of another service.
    pub(super) service_url: String,
    addresses: Mutex<Vec<Option<String>>>,
    /// Whether acknowledged events may be lost; then no lane relies on them.
    pub(super) lossy: AtomicBool,
    at_work: watch::Sender<usize>,
    /// The longest time of an answered post, in milliseconds.
    pub(super) slowest_ms: AtomicU64,
}

impl Shared {
    /// Returns the id of a lane's event with this number, which is the same within a run.
    pub(super) fn event_id(&self, lane: usize, sequence: u64) -> Uuid {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{}/{lane}/{sequence}", self.run).as_bytes())
    }

    /// Returns the address of a random replica that should be up.
    pub(super) fn address(&self, random: &mut Rng) -> Option<String> {
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let up: Vec<&String> = addresses.iter().flatten().collect();
        (!up.is_empty()).then(|| up[random.usize(..up.len())].clone())
    }
}

impl Load {
    /// Creates clients that wait for [`Self::begin`]. The same seed posts the same events.
    pub(super) fn new(run: &str, seed: u64, brokers: &str, input: &str, service_url: &str) -> Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("partitioner", "murmur2_random")
            .set("enable.idempotence", "true")
            .set("linger.ms", "1")
            .set("message.timeout.ms", "8000")
            .set("reconnect.backoff.max.ms", "500")
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Critical)
            .create()?;
        use_ring();
        let http = reqwest::Client::builder().timeout(REQUEST).build().unwrap_or_default();
        let shared = Arc::new(Shared {
            run: run.to_owned(),
            ledger: Arc::default(),
            http,
            input: input.to_owned(),
            producer,
            service_url: service_url.to_owned(),
            addresses: Mutex::default(),
            lossy: AtomicBool::new(false),
            at_work: watch::Sender::new(0),
            slowest_ms: AtomicU64::new(0),
        });
        let wanted = watch::Sender::new(false);
        let mut lanes = JoinSet::new();
        let ways = LANES.into_iter().flat_map(|(way, count)| std::iter::repeat_n(way, count));
        for (number, way) in ways.enumerate() {
            let random = Rng::with_seed(seed.wrapping_mul(1000).wrapping_add(number as u64));
            let lane = Lane { shared: shared.clone(), number, way, random, sequence: 0 };
            lanes.spawn(run_lane(lane, shared.clone(), wanted.subscribe()));
        }
        Ok(Self { shared, wanted, lanes })
    }

    /// Returns the ledger of everything submitted.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.shared.ledger
    }

    /// Returns the number of acknowledged events.
    pub(super) fn acknowledged(&self) -> usize {
        self.ledger().entries().values().filter(|promise| promise.acknowledged).count()
    }

    /// Returns the longest time of an answered post since the last call.
    pub(super) fn take_slowest(&self) -> Duration {
        Duration::from_millis(self.shared.slowest_ms.swap(0, Ordering::Relaxed))
    }

    /// Allows acknowledged events to be lost from now on: a standby lags behind, and is about to take over.
    pub(super) fn expect_losses(&self) {
        self.shared.lossy.store(true, Ordering::Relaxed);
    }

    /// Sets the addresses of the replicas; `None` for one that is down.
    pub fn tell(&self, addresses: Vec<Option<String>>) {
        *self.shared.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// Starts posting.
    pub fn begin(&self) {
        self.wanted.send_replace(true);
    }

    /// Posts nothing new, and waits until everything begun is acknowledged.
    ///
    /// # Errors
    /// Returns an error if that takes too long, or a client got an answer that it must not get.
    pub async fn rest(&mut self) -> Result<()> {
        self.wanted.send_replace(false);
        let mut at_work = self.shared.at_work.subscribe();
        tokio::select! {
            rests = at_work.wait_for(|at_work| *at_work == 0) => { rests?; }
            ended = self.lanes.join_next() => {
                ended.context("there are no clients")??.context("a client failed")?;
                bail!("a client ended");
            }
            () = tokio::time::sleep(PATIENCE) => {
                bail!("{} clients have no answer {PATIENCE:?} after the fault was over", *self.shared.at_work.borrow());
            }
        }
        Ok(())
    }
}

async fn run_lane(mut lane: Lane, shared: Arc<Shared>, mut wanted: watch::Receiver<bool>) -> Result<()> {
    loop {
        if wanted.wait_for(|wanted| *wanted).await.is_err() {
            return Ok(());
        }
        shared.at_work.send_modify(|at_work| *at_work += 1);
        while *wanted.borrow_and_update() {
            lane.step().await?;
        }
        shared.at_work.send_modify(|at_work| *at_work -= 1);
    }
}
