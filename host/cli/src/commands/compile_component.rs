//! `belfry compile-component`: what a service starts for each component that is uploaded, and nobody else.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use belfry_sandbox::{CompileError, CompileLimits, INVALID_COMPONENT, compile_component};
use clap::Args;

use crate::Exit;

/// What compiling may use up.
#[derive(Args, Debug)]
pub struct CompileArgs {
    /// Of all processors together
    #[arg(long, value_name = "N")]
    processor_seconds: u64,
    /// Address space
    #[arg(long, value_name = "N")]
    memory_bytes: u64,
}

/// This very program, also after its file was replaced by a newer one.
pub fn this_program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}

/// Compile the component on standard input to standard output. What is wrong with it goes to standard error, bare.
pub fn run(args: &CompileArgs) -> anyhow::Result<Exit> {
    let limits = CompileLimits {
        // Whoever started this watches the clock.
        time: Duration::MAX,
        processor_time: Duration::from_secs(args.processor_seconds),
        memory_bytes: args.memory_bytes,
    };
    match compile_component(&limits, io::stdin().lock(), io::stdout().lock()) {
        Ok(()) => Ok(Exit::Ok),
        Err(CompileError::Invalid(error)) => {
            eprintln!("{error:#}");
            debug_assert_eq!(Exit::Check as u8, INVALID_COMPONENT);
            Ok(Exit::Check)
        }
        Err(error) => Err(error.into()),
    }
}
