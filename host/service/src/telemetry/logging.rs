use std::io;

use tracing_subscriber::EnvFilter;

use super::panics::count_panics;
use crate::config::{Log, LogFormat};

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
#[error("log.level: {0}; use error, warn, info, debug, trace, or a filter such as info,belfry_service=debug")]
pub struct LogError(String);

/// What of the log is written.
pub(crate) fn log_filter(settings: &Log) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(&settings.level).map_err(|error| LogError(error.to_string()))
}

/// Write this process's log to standard error from now on, panics too. The first call counts.
pub fn start_logging(settings: &Log) -> Result<(), LogError> {
    let filter = log_filter(settings)?;
    // A line that cannot be written, to a file on a full disk for example, is lost. The subscriber's own message about that would go
    // the same way and panic there, and so would the log line of that panic, which ends the process.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false);
    let started = match settings.format {
        LogFormat::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    count_panics();
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
    Ok(())
}
