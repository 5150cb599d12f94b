use std::io::{self, Read, Write};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, nice, setrlimit};
use wasmtime::Engine;

use crate::CompileLimits;
use crate::compiler::MAX_COMPILED_BYTES;
use crate::engine::config;

/// Niceness of the compiling process: it must not take the processor away from events.
const NICE: i32 = 10;

/// The reason why a component was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The bytes are not a valid component.
    #[error("{0:#}")]
    Invalid(wasmtime::Error),
    /// The limits cannot be set, or the bytes cannot be read or written.
    #[error("cannot compile here: {0}")]
    System(#[from] io::Error),
    /// The engine refuses its settings or this machine.
    #[error("the WebAssembly engine cannot start: {0:#}")]
    Engine(wasmtime::Error),
}

/// Compiles a component. Call this in a process that does nothing else and exits afterwards, since the limits cannot be
/// lifted. The parent process enforces the limit on elapsed time.
pub fn compile_component(
    limits: &CompileLimits,
    mut input: impl Read,
    mut output: impl Write,
) -> Result<(), CompileError> {
    confine(limits).map_err(io::Error::from)?;
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    let engine = Engine::new(&config()).map_err(CompileError::Engine)?;
    let compiled = engine.precompile_component(&bytes).map_err(CompileError::Invalid)?;
    output.write_all(&compiled)?;
    Ok(output.flush()?)
}

fn confine(limits: &CompileLimits) -> rustix::io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let at_most = |resource, most: u64, grace: u64| {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most + grace) })
    };
    // In addition to the current address space, most of which allocators only reserve.
    at_most(Resource::As, address_space().saturating_add(limits.memory_bytes), 0)?;
    // The signal of the soft limit (SIGXCPU) identifies the cause; that of the hard limit would not.
    at_most(Resource::Cpu, limits.processor_time.max(Duration::from_secs(1)).as_secs(), 1)?;
    at_most(Resource::Fsize, MAX_COMPILED_BYTES, 0)?;
    // A process that ran out of gigabytes of memory must not leave a core dump of them on the disk.
    at_most(Resource::Core, 0, 0)?;
    nice(NICE)?;
    Ok(())
}

/// Returns the current address space of this process in bytes, or a generous estimate if the system does not report it.
fn address_space() -> u64 {
    const SURELY: u64 = 4 << 30;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let size =
        status.lines().find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    size.map_or(SURELY, |kibibytes: u64| kibibytes << 10)
}
