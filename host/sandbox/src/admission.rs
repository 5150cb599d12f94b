use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Maximum size of a component, in bytes.
const MAX_COMPONENT_BYTES: usize = 64 << 20;
/// Name of the contract that this host implements.
const CONTRACT: &str = "belfry:projector";
const CONTRACT_VERSION: &str = "1.0.0";

/// Returns the contract that this host implements, with its version.
pub(crate) fn contract() -> String {
    format!("{CONTRACT}@{CONTRACT_VERSION}")
}

/// Returns the name of the interface that a rule exports.
pub(crate) fn exported_interface() -> String {
    format!("{CONTRACT}/projector@{CONTRACT_VERSION}")
}

/// Packages of WASI 0.2 that standard libraries import whether or not a rule uses them.
const WASI_PACKAGES: [&str; 5] = ["wasi:cli", "wasi:clocks", "wasi:filesystem", "wasi:io", "wasi:random"];

/// SHA-256 of a component's bytes, which identifies the component everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Returns the digest of a component's bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// The reason why a component is refused: what is wrong, which part is at fault, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct NotAdmitted {
    /// The kind of reason.
    pub reason: Reason,
    /// The message for the component's author.
    pub detail: String,
}

/// The kinds of reasons to refuse a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The bytes are not a component.
    NotAComponent,
    /// It exceeds the limits on size, parts or resources; the detail names the limit.
    OverLimit,
    /// It imports something that rules may not use.
    ForbiddenImport,
    /// It does not export this host's contract, or the exports do not have the contract's types.
    ContractMismatch,
    /// Its description violates the contract, or `describe` failed.
    BadDescription,
    /// The host or the rule refuses its configuration.
    BadConfiguration,
    /// The compiler exceeds its limits or crashes on it.
    NotCompiled,
    /// It returns different answers to the same event.
    NotDeterministic,
    /// It could not be tested because the host cannot run its compiler. This is not the component's fault.
    NoCompiler,
}

impl NotAdmitted {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// Checks bytes before any time is spent on compiling them.
pub(crate) fn check_bytes(bytes: &[u8]) -> Result<(), NotAdmitted> {
    let refuse = |detail: String| Err(NotAdmitted::new(Reason::NotAComponent, detail));
    if bytes.len() > MAX_COMPONENT_BYTES {
        let detail = format!("a component of {} bytes; at most {MAX_COMPONENT_BYTES} are allowed", bytes.len());
        return Err(NotAdmitted::new(Reason::OverLimit, detail));
    }
    match bytes {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => refuse(
            "a core WebAssembly module, not a component; build for the target wasm32-wasip2, or wrap it with `wasm-tools component new`"
                .into(),
        ),
        [0x7f, b'E', b'L', b'F', ..] => {
            refuse("compiled machine code (precompiled, .cwasm); upload the .wasm component itself: the host compiles it".into())
        }
        _ => refuse("not a WebAssembly component; build the rule for the target wasm32-wasip2 and upload that file".into()),
    }
}

/// Checks the imports and exports of a component against the contract. Returns its imports.
pub(crate) fn check_world(component: &Component, engine: &Engine) -> Result<Vec<String>, NotAdmitted> {
    let world = component.component_type();
    let imports: Vec<_> = world.imports(engine).map(|(name, _)| name.to_owned()).collect();
    let forbidden: Vec<_> = imports.iter().filter(|name| !allowed(name)).map(String::as_str).collect();
    if !forbidden.is_empty() {
        let detail = format!(
            "imports {}; rules may import {CONTRACT}@{CONTRACT_VERSION} and, of WASI 0.2, {}; a rule has no network access: take the data that it needs from the event or its configuration",
            forbidden.join(", "),
            WASI_PACKAGES.join(", ")
        );
        return Err(NotAdmitted::new(Reason::ForbiddenImport, detail));
    }
    let wanted = exported_interface();
    let exports: Vec<_> = world.exports(engine).map(|(name, _)| name.to_owned()).collect();
    if exports.contains(&wanted) {
        return Ok(imports);
    }
    let other = exports.iter().find(|name| name.starts_with(&format!("{CONTRACT}/projector")));
    let detail = match other {
        Some(other) => format!("exports {other}, but this host serves {wanted}; build it against that version"),
        None => format!("does not export {wanted}; build it against the world notification-projector in wit/"),
    };
    Err(NotAdmitted::new(Reason::ContractMismatch, detail))
}

fn allowed(import: &str) -> bool {
    let Some((interface, version)) = import.split_once('@') else { return false };
    let Some((package, _)) = interface.split_once('/') else { return false };
    match package {
        CONTRACT => version == CONTRACT_VERSION,
        _ => WASI_PACKAGES.contains(&package) && version.starts_with("0.2."),
    }
}
