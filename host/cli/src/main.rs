//! The `belfry` command: read the arguments, run the command, end with its exit code.

use std::process::ExitCode;

use belfry_cli::{Cli, Exit, run};
use clap::Parser;
use mimalloc::MiMalloc;

/// An event is many small values for a short time: with the system's allocator, handing them out and taking them back
/// was a fifth of all the service did.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(cli)).into(),
        Err(error) => {
            eprintln!("belfry: cannot start its threads: {error}; raise the limit of processes (ulimit -u)");
            Exit::Failure.into()
        }
    }
}
