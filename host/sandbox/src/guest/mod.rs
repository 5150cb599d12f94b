pub(crate) mod wasi;

use std::sync::Arc;

use belfry_model::{Envelope, Outcome};
use serde::Serialize;

use crate::bindings::belfry::projector::{config, events, log, source, types};
use crate::limiter::Limiter;
use crate::{Configuration, Failure, Limits};
use wasi::WasiState;

const MAX_LOG_LINES: usize = 64;
pub(crate) const MAX_LOG_LINE_BYTES: usize = 4096;

/// Severity of a log line, as the guest rates it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the contract in wit/ documents the levels")]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

/// A log line that a guest wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// The severity. Standard output counts as info, standard error as warn.
    pub level: LogLevel,
    /// The text, truncated to 4 KiB.
    pub message: String,
}

/// The environment of one instance, and the resources that it has used. Created for one call and dropped after it.
pub(crate) struct Guest {
    pub(crate) limiter: Limiter,
    pub(crate) wasi: WasiState,
    pub(crate) log: Vec<LogLine>,
    configuration: Arc<Configuration>,
    event: Option<Arc<Envelope>>,
}

impl Guest {
    pub(crate) fn new(limits: &Limits, configuration: Arc<Configuration>, event: Option<Arc<Envelope>>) -> Self {
        Self {
            limiter: Limiter::new(limits),
            wasi: WasiState::of(event.as_deref()),
            log: Vec::new(),
            configuration,
            event,
        }
    }

    /// Stores a line, truncated to its limit. Returns an error if the maximum number of lines is reached: a guest that
    /// floods the log is broken.
    pub(crate) fn write_log(&mut self, level: LogLevel, message: &str) -> wasmtime::Result<()> {
        if self.log.len() == MAX_LOG_LINES {
            let detail = format!("more than {MAX_LOG_LINES} log lines; write fewer");
            return Err(Failure { outcome: Outcome::LogLimit, detail }.into());
        }
        let end = message.floor_char_boundary(MAX_LOG_LINE_BYTES);
        self.log.push(LogLine { level, message: message[..end].to_owned() });
        Ok(())
    }
}

impl types::Host for Guest {}

impl events::Host for Guest {}

impl config::Host for Guest {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        Ok(self.configuration.get(&name).cloned())
    }
}

impl source::Host for Guest {
    fn data(&mut self) -> wasmtime::Result<String> {
        match &self.event {
            Some(event) => Ok(event.data_text.to_string()),
            None => Err(outside_of_an_event("source.data")),
        }
    }

    fn metadata(&mut self) -> wasmtime::Result<Option<String>> {
        match &self.event {
            Some(event) => Ok(event.metadata_text.as_deref().map(str::to_owned)),
            None => Err(outside_of_an_event("source.metadata")),
        }
    }
}

fn outside_of_an_event(function: &str) -> wasmtime::Error {
    let detail = format!("{function} was called outside of project, where there is no event; call it only in project");
    Failure { outcome: Outcome::Trapped, detail }.into()
}

impl log::Host for Guest {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        };
        self.write_log(level, &message)
    }
}
