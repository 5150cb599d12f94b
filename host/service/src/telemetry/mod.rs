//! Logs and metrics. Payloads and recipients never appear in either.

mod logging;
mod metrics;
mod panics;

pub(crate) use logging::log_filter;
pub use logging::{LogError, start_logging};
pub use metrics::{Metrics, start_metrics};
