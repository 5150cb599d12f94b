use std::io;

use tracing_subscriber::EnvFilter;

use super::panics::count_panics;
use crate::config::{Log, LogFormat};

/// The filter of log lines is invalid.
#[derive(Debug, thiserror::Error)]
#[error("log.level: {0}; use error, warn, info, debug, trace, or a filter such as info,belfry_service=debug")]
pub struct LogError(String);

/// Parses the filter that determines which log lines are written.
pub(crate) fn log_filter(settings: &Log) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(&settings.level).map_err(|error| LogError(error.to_string()))
}

/// Starts writing this process's log, including panics, to standard error. Only the first call has an effect.
///
/// # Errors
///
/// Returns an error if the filter is invalid.
pub fn start_logging(settings: &Log) -> Result<(), LogError> {
    let filter = log_filter(settings)?;
    // A line that cannot be written, for example to a file on a full disk, is lost. If the subscriber reported this, it
    // would write to standard error too and panic. The log line of that panic would panic again, which aborts the process.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false);
    let started = match settings.format {
        LogFormat::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    count_panics();
    if started.is_err() {
        tracing::debug!("logging is already started");
    }
    Ok(())
}
