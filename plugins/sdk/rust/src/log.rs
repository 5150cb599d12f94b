//! Notes for the people who look after the rule: up to 64 lines a call, 4 KiB a line.

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

/// Outside a component, as in a unit test of the rule itself, notes go to standard error.
#[cfg(not(target_family = "wasm"))]
fn write(level: Level, message: &str) {
    eprintln!("{level:?}: {message}");
}

/// For the rule's developers.
pub fn debug(message: &str) {
    write(Level::Debug, message);
}

/// Worth seeing.
pub fn info(message: &str) {
    write(Level::Info, message);
}

/// Something looks wrong.
pub fn warn(message: &str) {
    write(Level::Warn, message);
}

/// Something is wrong.
pub fn error(message: &str) {
    write(Level::Error, message);
}
