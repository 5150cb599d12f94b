//! Behaviours that write to the log, and to standard output and standard error, which also go to the log.

use belfry_sdk::prelude::*;

use crate::Answer;
use crate::answer::well_formed;

const FLOOD_LINES: u32 = 100_000;
const LONG_LINE_BYTES: usize = 1024 * 1024;

/// Prints a line each to standard output and standard error, as an author does to find a mistake. This is allowed.
pub(crate) fn print(_: &Context) -> Answer {
    println!("this line went to standard output");
    eprintln!("this line went to standard error");
    Ok(vec![well_formed()].into())
}

/// Logs far more lines than a call may write.
pub(crate) fn log_flood(_: &Context) -> Answer {
    for line in 0..FLOOD_LINES {
        log::info(&format!("line {line}"));
    }
    Ok(vec![well_formed()].into())
}

/// Logs one line that is far longer than a line may be.
pub(crate) fn long_log_line(_: &Context) -> Answer {
    log::info(&"x".repeat(LONG_LINE_BYTES));
    Ok(vec![well_formed()].into())
}

/// Prints far more lines than a call may write.
pub(crate) fn stdout_flood(_: &Context) -> Answer {
    for line in 0..FLOOD_LINES {
        println!("line {line}");
    }
    Ok(vec![well_formed()].into())
}
