use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;
use uuid::Uuid;

use super::checker::Checker;
use super::cluster::Cluster;
use super::faults::{Fault, Length};
use super::stage::{EVENTS, Stage};
use super::tail::Tail;
use super::verdict::Verdict;

/// Number of replicas in a cluster.
const REPLICAS: usize = 3;
/// After this time without new records, missing ones are lost. Longer than a lease and than a consumer's session, even
/// when a busy machine stretches both.
const QUIET: Duration = Duration::from_secs(45);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A cluster and its checker.
pub struct Arena {
    /// The replicas, their servers and clients.
    pub cluster: Cluster,
    tail: Tail,
    checker: Checker,
    reported: Verdict,
    run: String,
}

impl Arena {
    /// Starts a cluster on the stage. All its names begin with `run`.
    ///
    /// # Errors
    /// Returns an error if it does not start.
    pub async fn open(stage: Arc<Stage>, run: &str, seed: u64) -> Result<Self> {
        let direct = stage.kafka.direct();
        let cluster = Cluster::start(stage, run, REPLICAS, seed).await?;
        let topics = [EVENTS, &cluster.notifications, &cluster.small];
        let tail = Tail::new(&direct, &topics)?;
        Ok(Self { cluster, tail, checker: Checker::default(), reported: Verdict::default(), run: run.to_owned() })
    }

    /// Waits until all acknowledged events are on the topics, or no new record has arrived for 45 s. Returns the
    /// changes since the previous verdict.
    ///
    /// # Errors
    /// Returns an error if the topics cannot be read.
    pub async fn check(&mut self) -> Result<Verdict> {
        self.check_until_quiet_for(QUIET).await
    }

    /// Does the same with another time without new records: where losses are expected, every check takes that time in
    /// full.
    ///
    /// # Errors
    /// Returns an error in the same cases as [`Self::check`].
    pub(super) async fn check_until_quiet_for(&mut self, quiet: Duration) -> Result<Verdict> {
        let ledger = self.cluster.load.ledger().clone();
        let mut last = Instant::now();
        loop {
            let new = self.tail.read().await?;
            // Other runs share the topic of events.
            let ours: Vec<_> = new.iter().filter(|seen| seen.key.starts_with(&self.run)).collect();
            if !ours.is_empty() {
                last = Instant::now();
            }
            ours.into_iter().for_each(|seen| self.checker.see(seen, &ledger));
            if self.checker.missing(&ledger).is_empty() || last.elapsed() > quiet {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let all = self.checker.verdict(&ledger);
        let new = all.since(&self.reported);
        self.reported = all;
        Ok(new)
    }
}

impl Arena {
    /// Returns the verdict on everything so far.
    pub fn all(&self) -> Verdict {
        self.reported.clone()
    }

    /// Returns the acknowledged events that are missing on the topics.
    pub fn missing(&self) -> Vec<Uuid> {
        self.checker.missing(self.cluster.load.ledger())
    }
}

/// Runs one round: posts, injects a fault meanwhile, rests, checks.
///
/// # Errors
/// Returns an error if something fails that should work while there is no fault. That is as bad as a bad verdict.
pub async fn round(arena: &mut Arena, fault: Fault, length: Length, random: &mut Rng) -> Result<Verdict> {
    arena.cluster.load.begin();
    let injected = fault.inject(&mut arena.cluster, length, random).await;
    arena.cluster.stage.heal().await?;
    injected.with_context(|| {
        format!("the fault {fault} could not be injected; the replicas' logs:\n{}", last_lines(&arena.cluster.logs()))
    })?;
    arena.cluster.start_all().await?;
    let rested = arena.cluster.load.rest().await;
    rested.with_context(|| format!("after {fault}; the replicas' logs:\n{}", last_lines(&arena.cluster.logs())))?;
    let verdict = arena.check().await?;
    if !verdict.is_good() {
        eprintln!("after {fault}, the replicas' logs:\n{}", last_lines(&arena.cluster.logs()));
    }
    Ok(verdict)
}

fn last_lines(log: &str) -> String {
    let important: Vec<&str> = log.lines().filter(|line| !line.contains("\"INFO\"")).collect();
    important[important.len().saturating_sub(30)..].join("\n")
}
