use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use wasmtime::Engine;

use crate::{NotAdmitted, Reason};

/// The hidden command that compiles a component; see [`compile_component`](crate::compile_component).
pub const COMPILE_COMMAND: &str = "compile-component";
/// Exit code of the compiling process if the bytes are not a valid component.
pub const INVALID_COMPONENT: u8 = 3;

/// Maximum size of a compiled component, in bytes.
pub(crate) const MAX_COMPILED_BYTES: u64 = 512 << 20;
/// Maximum number of bytes read from the compiling process's standard error.
const MAX_WORDS_BYTES: u64 = 16 << 10;
/// Interval at which the compiling process is polled for its end: the first one, which then doubles up to the later
/// one.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LATER_LOOK: Duration = Duration::from_millis(20);

/// Where components are compiled.
///
/// A component of a few hundred kilobytes can make the compiler request gigabytes and abort the process that it runs
/// in. A service therefore compiles in a separate process, under limits.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// In this process, without protection: for authors who test their own rules.
    Here,
    /// In a separate process.
    Process {
        /// The program, which runs [`compile_component`](crate::compile_component) when it is called with
        /// [`COMPILE_COMMAND`] and the limits.
        program: PathBuf,
        /// The limits of that process.
        limits: CompileLimits,
    },
}

/// Resource limits for compiling one component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Elapsed time.
    pub time: Duration,
    /// Processor time, of all processors together.
    pub processor_time: Duration,
    /// Address space in bytes, in addition to what the process has at its start.
    pub memory_bytes: u64,
}

impl CompileLimits {
    /// Returns the limits as arguments of the compiling process.
    fn arguments(&self) -> [OsString; 2] {
        let seconds = self.processor_time.as_secs();
        [format!("--processor-seconds={seconds}").into(), format!("--memory-bytes={}", self.memory_bytes).into()]
    }
}

impl Compiler {
    /// Compiles a component. Returns the machine code.
    pub(crate) fn compile(&self, engine: &Engine, bytes: &[u8]) -> Result<Vec<u8>, NotAdmitted> {
        match self {
            Self::Here => engine.precompile_component(bytes).map_err(|error| invalid(&format!("{error:#}"))),
            Self::Process { program, limits } => {
                let ended = Ended::of(program, limits, bytes).map_err(|error| {
                    let detail = format!("cannot run {} to compile it: {error}", program.display());
                    NotAdmitted::new(Reason::NoCompiler, detail)
                })?;
                ended.compiled(limits)
            }
        }
    }
}

fn invalid(detail: &str) -> NotAdmitted {
    let detail = format!("not a valid component: {detail}; rebuild it with a current toolchain");
    NotAdmitted::new(Reason::NotAComponent, detail)
}

/// The result of a compiling process.
struct Ended {
    /// `None` if the process was killed because it exceeded the limit on elapsed time.
    status: Option<ExitStatus>,
    compiled: Vec<u8>,
    words: String,
}

impl Ended {
    /// Starts the process and waits until it ends. Its input and outputs are files without names, so neither side ever
    /// waits for the other, and no other process can write to them.
    fn of(program: &PathBuf, limits: &CompileLimits, bytes: &[u8]) -> io::Result<Self> {
        let (mut input, mut output, mut words) = (tempfile::tempfile()?, tempfile::tempfile()?, tempfile::tempfile()?);
        input.write_all(bytes)?;
        input.rewind()?;
        let mut child = Command::new(program)
            .arg(COMPILE_COMMAND)
            .args(limits.arguments())
            // It needs no environment variables of this process, some of which are secrets.
            .env_clear()
            // Memory that the allocator reserves at the start would count as used, or be used without being counted.
            .env("MIMALLOC_ARENA_RESERVE", "64MiB")
            .stdin(input)
            .stdout(output.try_clone()?)
            .stderr(words.try_clone()?)
            .spawn()?;
        let began = Instant::now();
        let mut pause = FIRST_LOOK;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if began.elapsed() > limits.time {
                child.kill()?;
                child.wait()?;
                break None;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LATER_LOOK);
        };
        let compiled = if status.is_some_and(|status| status.success()) {
            read(&mut output, MAX_COMPILED_BYTES)?
        } else {
            Vec::new()
        };
        let words = String::from_utf8_lossy(&read(&mut words, MAX_WORDS_BYTES)?).into_owned();
        Ok(Self { status, compiled, words })
    }

    fn compiled(self, limits: &CompileLimits) -> Result<Vec<u8>, NotAdmitted> {
        let refuse = |what: String| {
            let detail = format!(
                "{what}; one function with very many locals or blocks can cause this: split it, or ask an operator to \
                 raise releases.compile_* in the configuration"
            );
            Err(NotAdmitted::new(Reason::NotCompiled, detail))
        };
        let Some(status) = self.status else {
            return refuse(format!("compiling it takes more than {} s", limits.time.as_secs()));
        };
        if status.success() {
            return Ok(self.compiled);
        }
        if status.code() == Some(INVALID_COMPONENT.into()) {
            return Err(invalid(self.words.trim_end()));
        }
        let said = |word| self.words.lines().find(|line| line.contains(word));
        match ended_by(status) {
            Some(rustix::process::Signal::XCPU) => {
                let seconds = limits.processor_time.as_secs();
                refuse(format!("compiling it takes more than {seconds} s of processor time"))
            }
            Some(rustix::process::Signal::XFSZ) => {
                refuse(format!("the compiled component has more than {} MiB", MAX_COMPILED_BYTES >> 20))
            }
            _ if said("memory").is_some() => {
                refuse(format!("compiling it needs more than {} MiB of memory", limits.memory_bytes >> 20))
            }
            _ => refuse(format!("the compiler crashed on it: {status} ({})", said("").unwrap_or_default())),
        }
    }
}

fn ended_by(status: ExitStatus) -> Option<rustix::process::Signal> {
    use std::os::unix::process::ExitStatusExt;
    status.signal().and_then(rustix::process::Signal::from_named_raw)
}

/// Returns the first `most` bytes of a file that another process has written to.
fn read(file: &mut File, most: u64) -> io::Result<Vec<u8>> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}
