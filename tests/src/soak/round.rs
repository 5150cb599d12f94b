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

/// Replicas in a cluster.
const REPLICAS: usize = 3;
/// When nothing new was seen for so long, what is missing is lost. Longer than a lease, a consumer's session, and a busy
/// machine's idea of both.
const QUIET: Duration = Duration::from_secs(45);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A cluster and those who check it.
pub struct Arena {
    /// The replicas, their servers and clients.
    pub cluster: Cluster,
    tail: Tail,
    checker: Checker,
    told: Verdict,
    run: String,
}

impl Arena {
    /// Start a cluster on the stage. All its names begin with `run`.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn open(stage: Arc<Stage>, run: &str, seed: u64) -> Result<Self> {
        let direct = stage.kafka.direct();
        let cluster = Cluster::start(stage, run, REPLICAS, seed).await?;
        let topics = [EVENTS, &cluster.notifications, &cluster.small];
        let tail = Tail::new(&direct, &topics)?;
        Ok(Self { cluster, tail, checker: Checker::default(), told: Verdict::default(), run: run.to_owned() })
    }

    /// Wait until all that is acknowledged can be seen, or nothing new was for a while. Gives what is new in the verdict.
    ///
    /// # Errors
    /// If the topics cannot be read.
    pub async fn check(&mut self) -> Result<Verdict> {
        self.check_until_quiet_for(QUIET).await
    }

    /// The same with another time in which nothing new is seen: where something is known to be lost, every check waits
    /// for all of it.
    ///
    /// # Errors
    /// As with [`Self::check`].
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
        let new = all.since(&self.told);
        self.told = all;
        Ok(new)
    }
}

impl Arena {
    /// The verdict on everything so far.
    pub fn all(&self) -> Verdict {
        self.told.clone()
    }

    /// What is acknowledged and on no topic.
    pub fn missing(&self) -> Vec<Uuid> {
        self.checker.missing(self.cluster.load.ledger())
    }
}

/// One round: post, let a fault happen meanwhile, rest, check.
///
/// # Errors
/// If something does not work that should while nothing is wrong. That is as bad as a bad verdict.
pub async fn round(arena: &mut Arena, fault: Fault, length: Length, random: &mut Rng) -> Result<Verdict> {
    arena.cluster.load.begin();
    let injected = fault.inject(&mut arena.cluster, length, random).await;
    arena.cluster.stage.heal().await?;
    injected.with_context(|| {
        format!("the fault {fault} could not take place; the replicas' logs:\n{}", last_lines(&arena.cluster.logs()))
    })?;
    arena.cluster.start_all().await?;
    let rested = arena.cluster.load.rest().await;
    rested.with_context(|| format!("after {fault}; the replicas' logs:\n{}", last_lines(&arena.cluster.logs())))?;
    let verdict = arena.check().await?;
    if !verdict.is_good() {
        eprintln!("after {fault}, the replicas say:\n{}", last_lines(&arena.cluster.logs()));
    }
    Ok(verdict)
}

fn last_lines(log: &str) -> String {
    let important: Vec<&str> = log.lines().filter(|line| !line.contains("\"INFO\"")).collect();
    important[important.len().saturating_sub(30)..].join("\n")
}
