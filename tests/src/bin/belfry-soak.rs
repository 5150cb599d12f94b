//! Many rounds of faults under load: `make soak FAULT=name|all ROUNDS=… MINUTES=… SEED=…`.
//!
//! Each round appends its verdict to a file. Rounds in that file are not run again, so a soak that was stopped
//! continues where it left off.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use belfry_tests::soak::{Arena, Fault, Length, Results, Stage, Verdict, round};

/// Rounds per cluster; the next cluster starts with an empty log and an empty checker.
const ROUNDS_PER_CLUSTER: u64 = 25;
/// Exit code if a verdict is bad.
const BAD: u8 = 3;

struct Wanted {
    faults: Vec<Fault>,
    rounds: u64,
    seconds: f64,
    seed: u64,
    results: Results,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let wanted = wanted()?;
    let stage = Arc::new(Stage::start().await?);
    for fault in &wanted.faults {
        while let Some(first) = next_round(&wanted, *fault)? {
            run_cluster(&wanted, &stage, *fault, first).await?;
        }
    }
    let mut all_good = true;
    println!("verdicts:");
    for fault in &wanted.faults {
        let (rounds, seconds, verdict) = wanted.results.of(*fault, wanted.seed)?;
        all_good &= verdict.is_good();
        let word = if verdict.is_good() { "good" } else { "BAD" };
        println!("{:<28} {word:<4} {rounds} rounds, {:.0} s, seed {}: {verdict}", fault.name(), seconds, wanted.seed);
    }
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::from(BAD) })
}

fn wanted() -> Result<Wanted> {
    ensure!(std::env::args().len() == 1, "takes no arguments: set the variables FAULT, ROUNDS, MINUTES, SEED, RESULTS");
    let fault = std::env::var("FAULT").unwrap_or_else(|_| "all".into());
    let faults = if fault == "all" { Fault::ALL.to_vec() } else { vec![fault.parse()?] };
    let results = std::env::var("RESULTS").unwrap_or_else(|_| "soak-results.jsonl".into());
    Ok(Wanted {
        faults,
        rounds: number("ROUNDS", 100)?,
        seconds: number("MINUTES", 5)? as f64 * 60.0,
        seed: number("SEED", 1)?,
        results: Results::at(Path::new(&results)),
    })
}

fn number(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => text.parse().with_context(|| format!("{name} must be a number, not {text:?}")),
        _ => Ok(default),
    }
}

/// Returns the number of a fault's next round; `None` after enough rounds or enough time.
fn next_round(wanted: &Wanted, fault: Fault) -> Result<Option<u64>> {
    let (rounds, seconds, _) = wanted.results.of(fault, wanted.seed)?;
    Ok((rounds < wanted.rounds && seconds < wanted.seconds).then_some(rounds + 1))
}

async fn run_cluster(wanted: &Wanted, stage: &Arc<Stage>, fault: Fault, first: u64) -> Result<()> {
    let run = format!("{fault}-{}-{first}", wanted.seed);
    // The process id keeps a soak that continues from reusing the names of its earlier run.
    let run = format!("{run}-{}", std::process::id());
    let mut arena = Arena::open(stage.clone(), &run, wanted.seed.wrapping_mul(31).wrapping_add(first)).await?;
    for number in first..first + ROUNDS_PER_CLUSTER {
        if next_round(wanted, fault)?.is_none() {
            break;
        }
        let mut random = fastrand::Rng::with_seed(wanted.seed.wrapping_mul(1_000_003).wrapping_add(number));
        let began = Instant::now();
        let outcome = round(&mut arena, fault, Length::Long, &mut random).await;
        let failed = outcome.is_err();
        let verdict = outcome.unwrap_or_else(|error| Verdict::failure(&error));
        let seconds = began.elapsed().as_secs_f64();
        eprintln!("{fault} round {number} ({seconds:.0} s): {verdict}");
        wanted.results.append(fault, wanted.seed, number, seconds, &verdict)?;
        if failed {
            // The state of the cluster is unknown now.
            return Ok(());
        }
    }
    arena.cluster.stop().await
}
