//! Log lines for the people who maintain the rule: up to 64 lines per call, 4 KiB per line.

#[cfg(target_family = "wasm")]
use crate::bindings::belfry::projector::log::{Level, write};

#[cfg(not(target_family = "wasm"))]
#[derive(Debug)]
enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// Outside a component, as in a unit test of the rule itself, log lines go to standard error.
#[cfg(not(target_family = "wasm"))]
fn write(level: Level, message: &str) {
    eprintln!("{level:?}: {message}");
}

/// Logs a line for the rule's developers.
pub fn debug(message: &str) {
    write(Level::Debug, message);
}

/// Logs a line that is worth seeing.
pub fn info(message: &str) {
    write(Level::Info, message);
}

/// Logs a warning: something looks wrong.
pub fn warn(message: &str) {
    write(Level::Warn, message);
}

/// Logs an error: something is wrong.
pub fn error(message: &str) {
    write(Level::Error, message);
}
