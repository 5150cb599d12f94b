//! Behaviours that use up memory, or keep state that must not be kept.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use belfry_sdk::prelude::*;

use crate::Answer;
use crate::answer::well_formed;

const BLOCK_BYTES: usize = 1024 * 1024;

/// Allocates memory and writes to it until the host refuses more; Rust then aborts.
pub(crate) fn memory_hog(_: &Context) -> Answer {
    let mut blocks = Vec::new();
    loop {
        blocks.push(black_box(vec![1_u8; BLOCK_BYTES]));
    }
}

/// Recurses without end.
pub(crate) fn stack_overflow(_: &Context) -> Answer {
    let depth = descend(0);
    Err(Rejection::new("bottomless", format!("the stack ended after {depth} calls, and execution continued")))
}

/// `black_box` hides from the optimizer that the recursion may end, and what follows the call. Otherwise the optimizer
/// would turn the recursion into a loop.
fn descend(depth: u64) -> u64 {
    if black_box(depth) == u64::MAX { depth } else { black_box(descend(depth + 1)) }
}

/// Counts events across calls. If each call gets a fresh instance, the count is always 1.
pub(crate) fn leaky_state(_: &Context) -> Answer {
    static EVENTS: AtomicU64 = AtomicU64::new(0);
    let count = EVENTS.fetch_add(1, Ordering::Relaxed) + 1;
    Ok(vec![well_formed().payload(&json!({ "count": count }))].into())
}
