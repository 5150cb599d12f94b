//! The `belfry` command: parses the arguments, runs the command, exits with its exit code.

use std::ffi::c_long;
use std::process::ExitCode;

use belfry_cli::help::with_groups;
use belfry_cli::{Cli, Exit, run};
use clap::{CommandFactory, FromArgMatches};
use libmimalloc_sys::{mi_option_set_default, mi_option_t};
use mimalloc::MiMalloc;

/// An event allocates many small, short-lived values: with the system's allocator, allocating and freeing them was a
/// fifth of the service's work.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// `mi_option_purge_delay` of mimalloc's `mi_option_t`; the bindings have no constant for it.
const PURGE_DELAY: mi_option_t = 15;
/// The purge delay in units of 10 ms: 100 ms. With mimalloc's default of 1000, memory that a few large events used briefly
/// is kept for 10 s, and a service that receives only large events needs three times as much memory. 100 ms is no slower.
const PURGE_AFTER: c_long = 10;

fn main() -> ExitCode {
    return_freed_memory_soon();
    let arguments = with_groups(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&arguments).unwrap_or_else(|error| error.exit());
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(cli)).into(),
        Err(error) => {
            eprintln!("belfry: cannot start its threads: {error}; raise the process limit (ulimit -u)");
            Exit::Failure.into()
        }
    }
}

/// Sets the default purge delay. The environment variable `MIMALLOC_PURGE_DELAY` overrides it.
#[expect(unsafe_code)]
fn return_freed_memory_soon() {
    // SAFETY: sets a number in the allocator's table of options; the allocator ignores unknown options.
    unsafe { mi_option_set_default(PURGE_DELAY, PURGE_AFTER) };
}
