//! Faults. Each is a function that causes the fault while clients post, and returns when the fault is over.

mod bad_record;
mod commits;
mod database;
mod entries;
mod group;
mod kafka;
mod next_day;
mod postgres;
mod redis;
mod replicas;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail};
use fastrand::Rng;

use super::cluster::Cluster;

/// The duration of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// As short as it can be effective, for `make test`.
    Short,
    /// As long as in reality.
    Long,
}

impl Length {
    /// Returns one of two values.
    pub(super) fn of<T>(self, short: T, long: T) -> T {
        match self {
            Self::Short => short,
            Self::Long => long,
        }
    }
}

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal: $inject:path,)+) => {
        /// A fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Fault {
            /// All faults.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Returns its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// Injects the fault, and returns when it is over.
            pub(super) async fn inject(self, cluster: &mut Cluster, length: Length, random: &mut Rng) -> Result<()> {
                match self {
                    $(Self::$variant => $inject(cluster, length, random).await,)+
                }
            }
        }
    };
}

faults! {
    /// SIGKILL of replicas, including the holder of the lease.
    KillReplica = "kill-replica": replicas::kill,
    /// A crash at each named fail point, one after the other.
    KillAtFailPoints = "kill-at-fail-points": replicas::kill_at_fail_points,
    /// SIGSTOP of the holder until long after its lease, then SIGCONT.
    StopHolder = "stop-holder": replicas::stop_holder,
    /// SIGTERM of the replicas, one after the other, as in a rolling upgrade.
    RestartReplicas = "restart-replicas": replicas::restart,
    /// SIGKILL of all PostgreSQL processes.
    PostgresKill = "postgres-kill": postgres::kill,
    /// PostgreSQL is stopped cleanly and started again.
    PostgresRestart = "postgres-restart": postgres::restart,
    /// The replicas' connections are terminated repeatedly.
    PostgresTerminateBackends = "postgres-terminate-backends": postgres::terminate_backends,
    /// Other sessions use up all connections.
    PostgresPoolExhausted = "postgres-pool-exhausted": postgres::pool_exhausted,
    /// The transaction commits, but the acknowledgement is lost.
    PostgresCommitAnswerLost = "postgres-commit-answer-lost": postgres::commit_answer_lost,
    /// The network to PostgreSQL drops everything; new connections work.
    PostgresSilent = "postgres-silent": postgres::silent,
    /// Kafka is stopped, and started again later.
    KafkaStop = "kafka-stop": kafka::stop,
    /// SIGKILL of Kafka.
    KafkaKill = "kafka-kill": kafka::kill,
    /// Kafka responds late, or temporarily not at all.
    KafkaSlow = "kafka-slow": kafka::slow,
    /// Connections to Kafka are reset in the middle of a batch.
    KafkaReset = "kafka-reset": kafka::reset,
    /// Consumers of the replicas' group join and leave.
    RebalanceStorm = "rebalance-storm": group::rebalance_storm,
    /// An entry that its topic rejects, at every position of a group.
    UnsendableEntry = "unsendable-entry": entries::unsendable,
    /// A malformed or conflicting event, at every position of a group.
    PoisonMessage = "poison-message": bad_record::poison,
    /// U+0000 in one event of a group.
    NulInGroup = "nul-in-group": bad_record::nul,
    /// The same event with a new time, a day later, on other replicas.
    NextDay = "next-day": next_day::next_day,
    /// Commits are delayed, and a fifth of the transactions is rolled back.
    CommitRace = "commit-race": commits::race,
    /// Another session's transaction stays open.
    OpenSnapshot = "open-snapshot": database::open_snapshot,
    /// The database is dumped while the log's oldest range is retired.
    DumpWhileRetiring = "dump-while-retiring": database::dump_while_retiring,
    /// Redis is down.
    RedisDown = "redis-down": redis::down,
    /// Redis loses all its data repeatedly.
    RedisFlush = "redis-flush": redis::flush,
    /// Another client takes the tokens that wake relays.
    RedisSteal = "redis-steal": redis::steal,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match Self::ALL.iter().find(|fault| fault.name() == name) {
            Some(fault) => Ok(*fault),
            None => bail!("there is no fault {name}; there are {}", names().join(", ")),
        }
    }
}

fn names() -> Vec<&'static str> {
    Fault::ALL.iter().map(|fault| fault.name()).collect()
}

/// Lets clients and replicas work for a random time of up to `at_most_ms` milliseconds.
async fn work(random: &mut Rng, at_most_ms: u64) {
    tokio::time::sleep(Duration::from_millis(random.u64(at_most_ms / 4..=at_most_ms))).await;
}
