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

/// Clients at the same time, by how their events come to Belfry.
const LANES: [(Way, usize); 3] = [(Way::Http, 8), (Way::Kafka, 3), (Way::Submit, 2)];
/// How long a request may take before its sender asks somebody else.
const REQUEST: Duration = Duration::from_secs(4);
/// How long clients may take to have everything acknowledged once nothing is wrong any more.
const PATIENCE: Duration = Duration::from_secs(90);

/// Clients that post events while they are wanted.
pub struct Load {
    pub(super) shared: Arc<Shared>,
    wanted: watch::Sender<bool>,
    lanes: JoinSet<Result<()>>,
}

/// What the lanes share.
pub(super) struct Shared {
    /// What all keys of this run begin with.
    pub(super) run: String,
    pub(super) ledger: Arc<Ledger>,
    pub(super) http: reqwest::Client,
    /// A topic that the replicas read.
    pub(super) input: String,
    pub(super) producer: FutureProducer,
    /// The database of another service.
    pub(super) service_url: String,
    addresses: Mutex<Vec<Option<String>>>,
    /// Whether what was acknowledged may be lost; then nobody counts on it.
    pub(super) lossy: AtomicBool,
    at_work: watch::Sender<usize>,
    /// The longest that a post took which was answered, in milliseconds.
    pub(super) slowest_ms: AtomicU64,
}

impl Shared {
    /// The event of a lane with this number: the same in the same run.
    pub(super) fn event_id(&self, lane: usize, sequence: u64) -> Uuid {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{}/{lane}/{sequence}", self.run).as_bytes())
    }

    /// A replica that should be up.
    pub(super) fn address(&self, random: &mut Rng) -> Option<String> {
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let up: Vec<&String> = addresses.iter().flatten().collect();
        (!up.is_empty()).then(|| up[random.usize(..up.len())].clone())
    }
}

impl Load {
    /// Clients that wait until they are wanted. The same seed posts the same events.
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

    /// What they submitted.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.shared.ledger
    }

    /// How many events were acknowledged.
    pub(super) fn acknowledged(&self) -> usize {
        self.ledger().entries().values().filter(|promise| promise.acknowledged).count()
    }

    /// The longest that an answered post took since this was asked last.
    pub(super) fn take_slowest(&self) -> Duration {
        Duration::from_millis(self.shared.slowest_ms.swap(0, Ordering::Relaxed))
    }

    /// From now on what was acknowledged may be lost: a standby lags behind, and is about to take over.
    pub(super) fn expect_losses(&self) {
        self.shared.lossy.store(true, Ordering::Relaxed);
    }

    /// Where replicas answer now.
    pub fn tell(&self, addresses: Vec<Option<String>>) {
        *self.shared.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// Post from now on.
    pub fn begin(&self) {
        self.wanted.send_replace(true);
    }

    /// Post nothing new, and wait until all that was begun is acknowledged.
    ///
    /// # Errors
    /// If that takes too long, or something was answered that must not be.
    pub async fn rest(&mut self) -> Result<()> {
        self.wanted.send_replace(false);
        let mut at_work = self.shared.at_work.subscribe();
        tokio::select! {
            rests = at_work.wait_for(|at_work| *at_work == 0) => { rests?; }
            ended = self.lanes.join_next() => {
                ended.context("there are no clients")??.context("a client gave up")?;
                bail!("a client ended");
            }
            () = tokio::time::sleep(PATIENCE) => {
                bail!("{} clients have no answer {PATIENCE:?} after nothing was wrong any more", *self.shared.at_work.borrow());
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
