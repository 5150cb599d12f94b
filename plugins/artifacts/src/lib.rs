//! The bytes of the projectors that come with Belfry, and of the programs for tests of the sandbox.
//!
//! The build script builds them, so a plain `cargo build` or `cargo test` includes all of them.

/// The default rule of Belfry: `teacher-results` 1.0.0.
pub static TEACHER_RESULTS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/teacher-results.wasm"));

/// A changed release of that rule, in which a batch with failures is urgent: `teacher-results` 1.1.0.
pub static URGENT_FAILURES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/urgent-failures.wasm"));

/// Programs that misbehave, from `tests/programs/`.
#[cfg(feature = "programs")]
pub mod programs {
    /// A rule that does what its setting `behaviour` selects; `tests/programs/hostile/src/behaviour.rs` lists the
    /// behaviours.
    pub static HOSTILE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hostile.wasm"));

    /// A release of `teacher-results` that drops a notification.
    pub static FORGETFUL: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/forgetful.wasm"));

    /// A rule that never finishes starting.
    pub static START_LOOP: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/start-loop.wasm"));

    /// A rule that grows its table until the host refuses more elements.
    pub static TABLE_HOG: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/table-hog.wasm"));

    /// A rule with three memories that grows each of them until the host refuses more memory.
    pub static MANY_MEMORIES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/many-memories.wasm"));

    /// A valid rule except for its import of `wasi:sockets/tcp@0.2.0`.
    pub static FORBIDDEN_IMPORT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/forbidden-import.wasm"));

    /// A component that exports `belfry:projector/projector@2.0.0`, which no host implements.
    pub static OTHER_CONTRACT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/other-contract.wasm"));

    /// A component for the contract as it was before its first release.
    pub static OLDER_CONTRACT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/older-contract.wasm"));

    /// A component of 300 KB for which the compiler needs tens of gigabytes.
    pub static COMPILE_BOMB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/compile-bomb.wasm"));

    /// A smaller version of [`COMPILE_BOMB`]: it compiles, but takes seconds.
    pub static SLOW_TO_COMPILE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/slow-to-compile.wasm"));

    /// A core module, which is not a component.
    pub static CORE_MODULE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/core-module.wasm"));
}
