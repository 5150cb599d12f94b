//! The part of WASI 0.2 that the standard libraries of languages call, implemented without access to the host's
//! resources.
//!
//! Clocks show the event's time, randomness is seeded by the event's id, sleeping returns at once, standard output goes
//! to the log, and there are no files, arguments or environment variables. Every other function traps with a message
//! that names the alternative.

use std::time::SystemTime;

use belfry_model::{Envelope, Outcome, sabotaged};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType};
use wasmtime::{Engine, StoreContextMut};

use super::{Guest, LogLevel, MAX_LOG_LINE_BYTES};
use crate::Failure;

const NS_PER_MS: i128 = 1_000_000;
/// Step of the monotonic clock for each read. A clock that does not advance would make some runtimes spin.
const MONOTONIC_STEP_NS: u64 = 1_000;
/// Maximum number of random bytes for one call.
const MAX_RANDOM_BYTES: u64 = 64 * 1024;
/// Number of bytes that an output stream accepts at once.
const STREAM_BUFFER_BYTES: u64 = 64 * 1024;

/// WASI state of one call.
pub(crate) struct WasiState {
    wall_clock_ms: i64,
    monotonic_ns: u64,
    random: u64,
    stdout: String,
    stderr: String,
}

/// Returns the seed that rules would get if the safeguard were switched off.
fn unseeded() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64)
}

impl WasiState {
    pub(crate) fn of(event: Option<&Envelope>) -> Self {
        let (high, low) = event.map_or((0, 0), |event| event.event_id.as_u64_pair());
        Self {
            wall_clock_ms: event.map_or(0, |event| event.occurred_at_ms),
            monotonic_ns: 0,
            random: if sabotaged("seeded-randomness") { unseeded() } else { high ^ low },
            stdout: String::new(),
            stderr: String::new(),
        }
    }

    /// Returns the next number of SplitMix64, which is small, fast and the same everywhere. Nothing secret depends on
    /// it.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn random_bytes(&mut self, count: u64) -> wasmtime::Result<Vec<u8>> {
        if count > MAX_RANDOM_BYTES {
            return Err(fault(format!("{count} random bytes at once; at most {MAX_RANDOM_BYTES} are allowed")));
        }
        let words = (0..count.div_ceil(8)).flat_map(|_| self.next_random().to_le_bytes());
        Ok(words.take(count as usize).collect())
    }

    fn monotonic_now(&mut self) -> u64 {
        // A guest may have slept until the maximum of the clock.
        self.monotonic_ns = self.monotonic_ns.saturating_add(MONOTONIC_STEP_NS);
        self.monotonic_ns
    }
}

/// Writes lines to the log that the guest did not end before it returned.
pub(crate) fn flush_standard_streams(guest: &mut Guest) -> wasmtime::Result<()> {
    for (level, rest) in [
        (LogLevel::Info, std::mem::take(&mut guest.wasi.stdout)),
        (LogLevel::Warn, std::mem::take(&mut guest.wasi.stderr)),
    ] {
        if !rest.is_empty() {
            guest.write_log(level, &rest)?;
        }
    }
    Ok(())
}

struct InputStream;
struct OutputStream;
struct Pollable;
struct IoError;
/// A resource that no function ever returns.
struct Nothing;

const STDOUT: u32 = 1;
const STDERR: u32 = 2;

#[derive(ComponentType, Lower, Lift)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    LastOperationFailed(Resource<IoError>),
    #[component(name = "closed")]
    Closed,
}

#[derive(ComponentType, Lower, Lift)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

type Cx<'a> = StoreContextMut<'a, Guest>;
type Written = (Result<(), StreamError>,);

/// Defines everything that a component imports from WASI.
pub(crate) fn link(linker: &mut Linker<Guest>, component: &Component, engine: &Engine) -> wasmtime::Result<()> {
    for (name, import) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(interface) = import.ty else { continue };
        if !name.starts_with("wasi:") {
            continue;
        }
        let functions: Vec<(String, ComponentItem)> =
            interface.exports(engine).map(|(name, export)| (name.to_owned(), export.ty)).collect();
        let mut instance = linker.instance(name)?;
        for (function, kind) in functions {
            match kind {
                ComponentItem::Resource(_) => resource(&mut instance, &function)?,
                ComponentItem::ComponentFunc(_) => define(&mut instance, name, &function)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn resource(instance: &mut LinkerInstance<'_, Guest>, name: &str) -> wasmtime::Result<()> {
    let kind = match name {
        "input-stream" => ResourceType::host::<InputStream>(),
        "output-stream" => ResourceType::host::<OutputStream>(),
        "pollable" => ResourceType::host::<Pollable>(),
        "error" => ResourceType::host::<IoError>(),
        _ => ResourceType::host::<Nothing>(),
    };
    instance.resource(name, kind, |_, _| Ok(()))
}

fn define(instance: &mut LinkerInstance<'_, Guest>, interface: &str, function: &str) -> wasmtime::Result<()> {
    let (package, _) = interface.split_once('@').unwrap_or((interface, ""));
    let known = match package {
        "wasi:cli/environment" => environment(instance, function)?,
        "wasi:cli/exit" => exit(instance, function)?,
        "wasi:cli/stdin" | "wasi:cli/stdout" | "wasi:cli/stderr" => standard_stream(instance, function)?,
        "wasi:cli/terminal-stdin" | "wasi:cli/terminal-stdout" | "wasi:cli/terminal-stderr" => {
            instance.func_wrap(function, |_: Cx<'_>, (): ()| Ok((None::<Resource<Nothing>>,)))?;
            true
        }
        "wasi:clocks/wall-clock" => wall_clock(instance, function)?,
        "wasi:clocks/monotonic-clock" => monotonic_clock(instance, function)?,
        "wasi:filesystem/preopens" => {
            instance.func_wrap(function, |_: Cx<'_>, (): ()| Ok((Vec::<(Resource<Nothing>, String)>::new(),)))?;
            true
        }
        "wasi:io/error" => {
            instance.func_wrap(function, |_: Cx<'_>, (_,): (Resource<IoError>,)| Ok((String::new(),)))?;
            true
        }
        "wasi:io/poll" => poll(instance, function)?,
        "wasi:io/streams" => input_stream(instance, function)? || output_stream(instance, function)?,
        "wasi:random/random" | "wasi:random/insecure" | "wasi:random/insecure-seed" => random(instance, function)?,
        _ => false,
    };
    if known { Ok(()) } else { nothing_behind(instance, package, function) }
}

/// Defines a function that traps when it is called. Many functions are imported but never called.
fn nothing_behind(instance: &mut LinkerInstance<'_, Guest>, package: &str, function: &str) -> wasmtime::Result<()> {
    let instead = match package {
        package if package.starts_with("wasi:filesystem") => {
            "a rule has no files; put what it needs into its configuration"
        }
        _ => "take what the rule needs from the event or its configuration",
    };
    let detail = format!("called {package}#{function}, which is not available here: {instead}");
    instance.func_new(function, move |_, _, _, _| Err(fault(detail.clone())))
}

fn fault(detail: String) -> wasmtime::Error {
    Failure { outcome: Outcome::Trapped, detail }.into()
}

fn environment(instance: &mut LinkerInstance<'_, Guest>, function: &str) -> wasmtime::Result<bool> {
    match function {
        "get-environment" => {
            instance.func_wrap(function, |_: Cx<'_>, (): ()| Ok((Vec::<(String, String)>::new(),)))?;
        }
        "get-arguments" => instance.func_wrap(function, |_: Cx<'_>, (): ()| Ok((Vec::<String>::new(),)))?,
        "initial-cwd" => instance.func_wrap(function, |_: Cx<'_>, (): ()| Ok((None::<String>,)))?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn exit(instance: &mut LinkerInstance<'_, Guest>, function: &str) -> wasmtime::Result<bool> {
    let refuse = || fault("the guest called exit; return a rejection or an empty list instead".into());
    match function {
        "exit" => instance.func_wrap(function, move |_: Cx<'_>, (_,): (Result<(), ()>,)| Err::<(), _>(refuse()))?,
        "exit-with-code" => instance.func_wrap(function, move |_: Cx<'_>, (_,): (u8,)| Err::<(), _>(refuse()))?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn standard_stream(instance: &mut LinkerInstance<'_, Guest>, function: &str) -> wasmtime::Result<bool> {
    match function {
        "get-stdin" => {
            instance.func_wrap(function, |_: Cx<'_>, (): ()| Ok((Resource::<InputStream>::new_own(0),)))?;
        }
        "get-stdout" => {
            instance.func_wrap(function, |_: Cx<'_>, (): ()| Ok((Resource::<OutputStream>::new_own(STDOUT),)))?;
        }
        "get-stderr" => {
            instance.func_wrap(function, |_: Cx<'_>, (): ()| Ok((Resource::<OutputStream>::new_own(STDERR),)))?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn wall_clock(instance: &mut LinkerInstance<'_, Guest>, function: &str) -> wasmtime::Result<bool> {
    match function {
        "now" => instance.func_wrap(function, |cx: Cx<'_>, (): ()| {
            // The interface counts from 1970. For an earlier event the clock shows 1970-01-01T00:00:00Z.
            let ns = i128::from(cx.data().wasi.wall_clock_ms.max(0)) * NS_PER_MS;
            let nanoseconds = (ns % 1_000_000_000) as u32;
            Ok((Datetime { seconds: (ns / 1_000_000_000) as u64, nanoseconds },))
        })?,
        "resolution" => {
            instance.func_wrap(function, |_: Cx<'_>, (): ()| Ok((Datetime { seconds: 0, nanoseconds: 1_000_000 },)))?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn monotonic_clock(instance: &mut LinkerInstance<'_, Guest>, function: &str) -> wasmtime::Result<bool> {
    match function {
        "now" => {
            instance.func_wrap(function, |mut cx: Cx<'_>, (): ()| Ok((cx.data_mut().wasi.monotonic_now(),)))?;
        }
        "resolution" => instance.func_wrap(function, |_: Cx<'_>, (): ()| Ok((MONOTONIC_STEP_NS,)))?,
        // Sleeping returns at once, and the clock advances by the duration.
        "subscribe-duration" => instance.func_wrap(function, |mut cx: Cx<'_>, (duration,): (u64,)| {
            let wasi = &mut cx.data_mut().wasi;
            wasi.monotonic_ns = wasi.monotonic_ns.saturating_add(duration);
            Ok((Resource::<Pollable>::new_own(0),))
        })?,
        "subscribe-instant" => instance.func_wrap(function, |mut cx: Cx<'_>, (instant,): (u64,)| {
            let wasi = &mut cx.data_mut().wasi;
            wasi.monotonic_ns = wasi.monotonic_ns.max(instant);
            Ok((Resource::<Pollable>::new_own(0),))
        })?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn poll(instance: &mut LinkerInstance<'_, Guest>, function: &str) -> wasmtime::Result<bool> {
    match function {
        "[method]pollable.ready" => {
            instance.func_wrap(function, |_: Cx<'_>, (_,): (Resource<Pollable>,)| Ok((true,)))?;
        }
        "[method]pollable.block" => {
            instance.func_wrap(function, |_: Cx<'_>, (_,): (Resource<Pollable>,)| Ok(()))?;
        }
        "poll" => instance.func_wrap(function, |_: Cx<'_>, (pollables,): (Vec<Resource<Pollable>>,)| {
            Ok(((0..pollables.len() as u32).collect::<Vec<u32>>(),))
        })?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn input_stream(instance: &mut LinkerInstance<'_, Guest>, function: &str) -> wasmtime::Result<bool> {
    type Stream = Resource<InputStream>;
    match function {
        "[method]input-stream.read" | "[method]input-stream.blocking-read" => {
            instance.func_wrap(function, |_: Cx<'_>, (_, _): (Stream, u64)| {
                Ok((Err::<Vec<u8>, StreamError>(StreamError::Closed),))
            })?;
        }
        "[method]input-stream.skip" | "[method]input-stream.blocking-skip" => {
            instance.func_wrap(function, |_: Cx<'_>, (_, _): (Stream, u64)| {
                Ok((Err::<u64, StreamError>(StreamError::Closed),))
            })?;
        }
        "[method]input-stream.subscribe" => {
            instance.func_wrap(function, |_: Cx<'_>, (_,): (Stream,)| Ok((Resource::<Pollable>::new_own(0),)))?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn output_stream(instance: &mut LinkerInstance<'_, Guest>, function: &str) -> wasmtime::Result<bool> {
    type Stream = Resource<OutputStream>;
    match function {
        "[method]output-stream.check-write" => instance
            .func_wrap(function, |_: Cx<'_>, (_,): (Stream,)| Ok((Ok::<u64, StreamError>(STREAM_BUFFER_BYTES),)))?,
        "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush" => {
            instance.func_wrap(function, |mut cx: Cx<'_>, (stream, bytes): (Stream, Vec<u8>)| {
                write(cx.data_mut(), stream.rep(), &bytes)?;
                Ok::<Written, _>((Ok(()),))
            })?;
        }
        "[method]output-stream.flush" | "[method]output-stream.blocking-flush" => {
            instance.func_wrap(function, |_: Cx<'_>, (_,): (Stream,)| Ok::<Written, _>((Ok(()),)))?;
        }
        "[method]output-stream.subscribe" => {
            instance.func_wrap(function, |_: Cx<'_>, (_,): (Stream,)| Ok((Resource::<Pollable>::new_own(0),)))?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Buffers what a guest prints and writes complete lines to the log. The log truncates long lines, so the buffer never
/// keeps more than the limit of one line.
fn write(guest: &mut Guest, stream: u32, bytes: &[u8]) -> wasmtime::Result<()> {
    let (level, buffer) = match stream {
        STDERR => (LogLevel::Warn, &mut guest.wasi.stderr),
        _ => (LogLevel::Info, &mut guest.wasi.stdout),
    };
    let mut pending = std::mem::take(buffer);
    for piece in String::from_utf8_lossy(bytes).split_inclusive('\n') {
        match piece.strip_suffix('\n') {
            Some(end) => {
                pending.push_str(end);
                guest.write_log(level, &pending)?;
                pending.clear();
            }
            None => pending.push_str(piece),
        }
    }
    pending.truncate(pending.floor_char_boundary(MAX_LOG_LINE_BYTES));
    match stream {
        STDERR => guest.wasi.stderr = pending,
        _ => guest.wasi.stdout = pending,
    }
    Ok(())
}

fn random(instance: &mut LinkerInstance<'_, Guest>, function: &str) -> wasmtime::Result<bool> {
    match function {
        "get-random-bytes" | "get-insecure-random-bytes" => {
            instance.func_wrap(function, |mut cx: Cx<'_>, (count,): (u64,)| {
                Ok((cx.data_mut().wasi.random_bytes(count)?,))
            })?;
        }
        "get-random-u64" | "get-insecure-random-u64" => {
            instance.func_wrap(function, |mut cx: Cx<'_>, (): ()| Ok((cx.data_mut().wasi.next_random(),)))?;
        }
        "insecure-seed" => instance.func_wrap(function, |mut cx: Cx<'_>, (): ()| {
            let wasi = &mut cx.data_mut().wasi;
            Ok(((wasi.next_random(), wasi.next_random()),))
        })?,
        _ => return Ok(false),
    }
    Ok(true)
}
