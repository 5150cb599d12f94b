//! Releases that alternate under load: which release projected each event, and how that affects response times.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use belfry_artifacts::programs;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{Batch, Client, eventually, results_ready};

/// Concurrent clients per replica, each with one post in flight.
const CLIENTS: u64 = 8;

/// Observations while two releases alternated.
#[derive(Debug)]
pub struct Alternation {
    /// Times from when an event was due to its response, per round: first while nothing changed, then while releases
    /// did.
    pub rounds: Vec<[Vec<Duration>; 2]>,
    /// Total duration.
    pub took: Duration,
    /// Number of events that each release projected, by its label.
    pub projected: BTreeMap<String, u64>,
    /// Descriptions of everything that went wrong.
    pub findings: Vec<String>,
}

/// The schedule by which two releases alternate.
#[derive(Clone, Copy, Debug)]
pub struct Turns {
    /// Number of rounds, each with a phase in which nothing changes and a phase in which releases do.
    pub rounds: usize,
    /// Number of activations in a round.
    pub activations: usize,
    /// Time from one activation to the next, unless an activation takes longer.
    pub pause: Duration,
    /// Duration of a round's phase without changes.
    pub quiet: Duration,
    /// Interval at which events are due, over all replicas together.
    pub every: Duration,
}

/// Alternates two releases of a rule while events arrive. Each release stamps its notifications. Checks that each event
/// leads to one notification, with the stamp of the release that the notification names.
///
/// # Errors
/// Returns an error if a replica does not respond or rejects an event.
pub async fn alternate(replicas: &[Client], turns: Turns) -> Result<Alternation> {
    let first = replicas.first().context("a replica")?;
    let mut stamps = BTreeMap::new();
    let mut releases = Vec::new();
    for stamp in ["odd", "even"] {
        let pushed = first.push(programs::HOSTILE, &json!({ "behaviour": "notify", "stamp": stamp })).await?;
        releases.push(pushed.body["release_id"].as_i64().with_context(|| format!("{pushed:?}"))?);
        stamps.insert(pushed.body["label"].as_str().context("a label")?.to_owned(), stamp);
    }
    first.activate("hostile", releases[0]).await?;
    // The other replicas need time to compile it.
    for replica in replicas {
        let projectors = async || Ok(replica.get("/v1/projectors").await?.body);
        let is_served = |one: &Value| one["name"] == "hostile" && one["active"]["active"] == true;
        let serves = |listed: &Value| listed["projectors"].as_array().is_some_and(|all| all.iter().any(is_served));
        eventually("every replica serves it", projectors, serves).await?;
    }
    let load = Load::start(replicas, turns);
    let began = Instant::now();
    let mut turn = 0;
    for _ in 0..turns.rounds {
        tokio::time::sleep(turns.quiet).await;
        load.phase.fetch_add(1, Ordering::Relaxed);
        let mut pace = tokio::time::interval(turns.pause);
        for _ in 0..turns.activations {
            pace.tick().await;
            turn += 1;
            replicas[turn % replicas.len()].activate("hostile", releases[turn % 2]).await?;
        }
        load.phase.fetch_add(1, Ordering::Relaxed);
    }
    let took = began.elapsed();
    let Posted { times, taken } = load.finish().await?;
    let rounds = times.chunks_exact(2).map(|phases| [phases[0].clone(), phases[1].clone()]).collect();
    let (projected, findings) = check(first, &stamps, taken).await?;
    Ok(Alternation { rounds, took, projected, findings })
}

/// An open-loop load: events are due at fixed times, whether or not earlier ones were answered.
struct Load {
    /// Number of the current phase: even while nothing changes, odd while releases alternate.
    phase: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    clients: JoinSet<Result<Posted>>,
}

struct Posted {
    /// Response times, by phase.
    times: Vec<Vec<Duration>>,
    /// Ids of the rule's notifications, as the responses listed them.
    taken: Vec<String>,
}

impl Load {
    fn start(replicas: &[Client], turns: Turns) -> Self {
        let (phase, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (began, next) = (tokio::time::Instant::now(), Arc::new(AtomicU64::new(0)));
        let mut clients = JoinSet::new();
        for client in replicas.iter().flat_map(|replica| (0..CLIENTS).map(move |_| replica)) {
            let (client, phase, over, next) = (client.clone(), phase.clone(), over.clone(), next.clone());
            clients.spawn(async move {
                let mut posted = Posted::of(turns);
                while !over.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    // Measured from the time it is due: a client that waits for a slow response delays its next event
                    // as well.
                    let due = began + turns.every.saturating_mul(number.try_into().unwrap_or(u32::MAX));
                    tokio::time::sleep_until(due).await;
                    posted.post(&client, number, phase.load(Ordering::Relaxed), due.into_std()).await?;
                }
                Ok(posted)
            });
        }
        Self { phase, over, clients }
    }

    async fn finish(mut self) -> Result<Posted> {
        self.over.store(true, Ordering::Relaxed);
        let mut all: Option<Posted> = None;
        while let Some(posted) = self.clients.join_next().await {
            let posted = posted??;
            match &mut all {
                None => all = Some(posted),
                Some(all) => {
                    all.times.iter_mut().zip(posted.times).for_each(|(all, times)| all.extend(times));
                    all.taken.extend(posted.taken);
                }
            }
        }
        all.context("there were no clients")
    }
}

impl Posted {
    fn of(turns: Turns) -> Self {
        // One more list for the events after the last phase, which are not evaluated.
        Self { times: vec![Vec::new(); 2 * turns.rounds + 1], taken: Vec::new() }
    }

    async fn post(&mut self, client: &Client, number: u64, phase: usize, due: Instant) -> Result<()> {
        let posted = client.post(&results_ready(&Batch::number(number))).await?;
        self.times[phase].push(due.elapsed());
        ensure!(posted.status == 201, "{posted:?}");
        let notifications = posted.body["notifications"].as_array().context("notifications")?;
        let ours: Vec<&Value> =
            notifications.iter().filter(|notification| notification["projector"] == "hostile").collect();
        ensure!(ours.len() == 1, "an event leads to one notification: {posted:?}");
        self.taken.push(ours[0]["event_id"].as_str().context("an id")?.to_owned());
        Ok(())
    }
}

/// Reads all notifications from the beginning of the feed and compares them with those that the responses listed.
async fn check(
    client: &Client,
    stamps: &BTreeMap<String, &str>,
    taken: Vec<String>,
) -> Result<(BTreeMap<String, u64>, Vec<String>)> {
    let (mut projected, mut findings) = (BTreeMap::new(), Vec::new());
    let mut expected: BTreeSet<String> = taken.into_iter().collect();
    let mut feed = client.feed("from=beginning&projector=hostile", None).await?;
    let mut seen = BTreeSet::new();
    for item in Client::collect(&mut feed, expected.len()).await? {
        let id = item.data["event_id"].as_str().context("an id")?.to_owned();
        let release = item.data["metadata"]["belfry"]["release"].as_str().unwrap_or_default();
        let stamp = &item.data["data"]["payload"]["stamp"];
        if stamps.get(release).is_none_or(|expected| stamp != expected) {
            findings.push(format!("{id} names {release} and has the stamp {stamp}"));
        }
        *projected.entry(release.to_owned()).or_default() += 1;
        if !expected.remove(&id) {
            let what = if seen.contains(&id) { "doubled" } else { "not in any response" };
            findings.push(format!("{id}: {what}"));
        }
        seen.insert(id);
    }
    findings.extend(expected.into_iter().map(|id| format!("{id}: lost")));
    Ok((projected, findings))
}
