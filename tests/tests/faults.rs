//! Faults under load with three replicas, one short round of each. `make soak` runs many long rounds.
//!
//! The tests damage their servers, so each has its own stage, and few run at once.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};
use belfry_tests::soak::{Arena, Fault, Length, Meanwhile, Stage, promotion, round};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Maximum number of tests at once. A round spends most of its time waiting.
const AT_ONCE: usize = 2;

static TURNS: Semaphore = Semaphore::const_new(AT_ONCE);
/// Stages that no test uses.
static FREE: Mutex<Vec<Arc<Stage>>> = Mutex::new(Vec::new());

fn free() -> std::sync::MutexGuard<'static, Vec<Arc<Stage>>> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stage in use by a test. The next test uses it again, so it starts no servers.
struct Turn {
    stage: Arc<Stage>,
    _permit: SemaphorePermit<'static>,
}

impl Turn {
    async fn take() -> Result<Self> {
        let permit = TURNS.acquire().await?;
        let there = free().pop();
        let stage = match there {
            Some(stage) => stage,
            None => Arc::new(Stage::start().await?),
        };
        Ok(Self { stage, _permit: permit })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        free().push(self.stage.clone());
    }
}

async fn survive(fault: Fault) -> Result<()> {
    let turn = Turn::take().await?;
    let seed = 1;
    let mut random = fastrand::Rng::with_seed(seed);
    let began = std::time::Instant::now();
    let mut arena = Arena::open(turn.stage.clone(), fault.name(), seed).await?;
    let verdict = round(&mut arena, fault, Length::Short, &mut random).await?;
    eprintln!("{fault}: {verdict}; {:.1} s", began.elapsed().as_secs_f64());
    ensure!(verdict.is_good() && verdict.acknowledged > 0, "{fault}, seed {seed}: {verdict}");
    arena.cluster.stop().await
}

/// Defines a test for each fault.
macro_rules! survives {
    ($($name:ident: $fault:ident,)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> Result<()> {
            survive(Fault::$fault).await
        })+
    };
}

survives! {
    replicas_may_be_killed: KillReplica,
    a_replica_may_die_at_every_named_place: KillAtFailPoints,
    the_holder_of_the_lease_may_stand_still_until_long_after_it: StopHolder,
    replicas_may_be_restarted_one_after_the_other: RestartReplicas,
    postgresql_may_be_killed: PostgresKill,
    postgresql_may_be_restarted: PostgresRestart,
    connections_to_postgresql_may_be_terminated: PostgresTerminateBackends,
    others_may_take_all_of_postgresqls_connections: PostgresPoolExhausted,
    the_answer_to_a_commit_may_be_lost: PostgresCommitAnswerLost,
    the_network_to_postgresql_may_fall_silent: PostgresSilent,
    kafka_may_be_away: KafkaStop,
    kafka_may_be_killed: KafkaKill,
    kafka_may_be_slow_or_stand_still: KafkaSlow,
    connections_to_kafka_may_be_reset_in_the_midst_of_a_batch: KafkaReset,
    consumers_may_come_and_go: RebalanceStorm,
    an_entry_may_be_refused_at_every_position_of_a_group: UnsendableEntry,
    what_is_no_event_may_stand_at_every_position_of_a_group: PoisonMessage,
    a_nul_may_stand_in_one_event_of_a_group: NulInGroup,
    an_event_may_come_again_a_day_later_with_a_new_time_on_other_replicas: NextDay,
    commits_may_overtake_each_other_and_a_fifth_be_rolled_back: CommitRace,
    a_transaction_may_stay_open: OpenSnapshot,
    the_database_may_be_written_out_while_the_log_is_retired: DumpWhileRetiring,
    redis_may_be_away: RedisDown,
    redis_may_forget_everything: RedisFlush,
    somebody_may_steal_the_tokens_in_redis: RedisSteal,
}

/// Events that the standby had not received are lost, and each is identified. No event of the new primary is skipped.
async fn take_over(meanwhile: Meanwhile) -> Result<()> {
    // It starts its own servers, and would slow down the other tests.
    let _permit = TURNS.acquire().await?;
    let promoted = promotion(meanwhile, 1).await?;
    let verdict = &promoted.verdict;
    eprintln!(
        "promotion, {meanwhile:?}: {verdict}; {} lost with the old primary",
        promoted.lost_with_the_old_primary.len()
    );
    ensure!(promoted.passed_over.is_empty(), "skipped: {:?}", promoted.passed_over);
    ensure!(verdict.lost as usize == promoted.lost_with_the_old_primary.len(), "{verdict}");
    ensure!(verdict.doubled == 0 && verdict.inversions == 0 && verdict.phantoms == 0, "{verdict}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_lags_may_take_over_in_silence() -> Result<()> {
    take_over(Meanwhile::Silence).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_lags_may_take_over_under_load() -> Result<()> {
    take_over(Meanwhile::Load).await
}
