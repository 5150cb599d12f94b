//! `belfry compile-component`: an internal command that the service runs for each uploaded component.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use belfry_sandbox::{CompileError, CompileLimits, INVALID_COMPONENT, compile_component};
use clap::Args;

use crate::Exit;

/// The resources that compiling may use.
#[derive(Args, Debug)]
pub struct CompileArgs {
    /// Maximum CPU time of all threads together, in seconds
    #[arg(long, value_name = "N")]
    processor_seconds: u64,
    /// Maximum address space, in bytes
    #[arg(long, value_name = "N")]
    memory_bytes: u64,
}

/// Returns the path of the running program. On Linux it remains valid after the file is replaced by a newer version.
pub fn this_program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}

/// Compiles the component on standard input to standard output. Writes the error of an invalid component to standard
/// error, without a prefix.
pub fn run(args: &CompileArgs) -> anyhow::Result<Exit> {
    let limits = CompileLimits {
        // The service that started this process enforces the time limit.
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
