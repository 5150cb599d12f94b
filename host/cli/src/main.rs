//! The `belfry` command: read the arguments, run the command, end with its exit code.

use std::ffi::c_long;
use std::process::ExitCode;

use belfry_cli::{Cli, Exit, run};
use clap::Parser;
use libmimalloc_sys::{mi_option_set_default, mi_option_t};
use mimalloc::MiMalloc;

/// An event is many small values for a short time: with the system's allocator, handing them out and taking them back
/// was a fifth of all the service did.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// `mi_option_purge_delay` of mimalloc's `mi_option_t`, which the bindings do not name.
const PURGE_DELAY: mi_option_t = 15;
/// In units of 10 ms. With mimalloc's own 1000, memory that a few large events took for a moment is kept for 10 s, and a
/// service that only takes large events needs three times as much. With 100 ms it is no slower.
const PURGE_AFTER: c_long = 10;

fn main() -> ExitCode {
    return_freed_memory_soon();
    let cli = Cli::parse();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(cli)).into(),
        Err(error) => {
            eprintln!("belfry: cannot start its threads: {error}; raise the limit of processes (ulimit -u)");
            Exit::Failure.into()
        }
    }
}

/// The variable `MIMALLOC_PURGE_DELAY` is stronger.
#[expect(unsafe_code)]
fn return_freed_memory_soon() {
    // SAFETY: sets a number in a table of the allocator; it ignores options that it does not know.
    unsafe { mi_option_set_default(PURGE_DELAY, PURGE_AFTER) };
}
