//! Inspects the environment: what the host shows a rule of time and randomness, and what a WASI function does that the
//! host does not implement.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use belfry_sdk::prelude::{Context, json};

use crate::Answer;
use crate::answer::well_formed;

/// Returns what it saw, so that a test can repeat the call and compare: both clocks, the seed of hash maps, and random
/// bytes.
pub(crate) fn clocks_and_randomness(_: &Context) -> Answer {
    let first_read = Instant::now();
    let elapsed_ns = Instant::now().duration_since(first_read).as_nanos() as u64;
    let hash = RandomState::new().hash_one("a fixed text");
    let random: String =
        wasip2::random::random::get_random_bytes(16).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(vec![well_formed().payload(&json!({
        "now_ms": now_ms(),
        "elapsed_ns": elapsed_ns,
        "hash": format!("{hash:016x}"),
        "random": random,
    }))]
    .into())
}

fn now_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_millis() as i64,
        Err(before) => -(before.duration().as_millis() as i64),
    }
}

/// Calls a WASI function that the host does not implement.
///
/// Functions that the standard library calls are unsuitable. It sees that there are no files and does not request any;
/// clocks, randomness, an empty environment and printing are implemented; and sockets are not even linked, since a
/// component that imports them is refused. Splicing is in `wasi:io`, which may be imported; it needs only the standard
/// streams, and no language's library uses it.
pub(crate) fn missing_wasi(_: &Context) -> Answer {
    let input = wasip2::cli::stdin::get_stdin();
    let output = wasip2::cli::stdout::get_stdout();
    let spliced = output.splice(&input, 1);
    Ok(vec![well_formed().payload(&json!({ "message": format!("splicing returned {spliced:?}") }))].into())
}
