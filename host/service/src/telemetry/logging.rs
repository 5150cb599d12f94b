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
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
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
