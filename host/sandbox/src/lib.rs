//! Runs projector components. This is the only crate that depends on wasmtime.
//!
//! [`Sandbox`] owns the engines, their instance pools, and the clock that interrupts guests that run too long. It loads
//! a component's bytes into a [`Projector`], and compiles them in a separate process if its [`Compiler`] is set so. A
//! [`Projector`] runs `describe`, `check_config` and `project`, each in a fresh instance under all limits of its
//! [`Class`]. [`Executor`] runs these calls on dedicated threads, so that no guest ever blocks the service. A
//! [`Caller`] that is not live does not use the instances of live events.

mod admission;
mod admission_report;
mod bindings;
mod compile_cache;
mod compile_process;
mod compiler;
mod contract_mismatch;
mod convert;
mod description;
mod engine;
mod executor;
mod failure;
mod guest;
mod limiter;
mod link;
mod load;
mod projection;
mod projector;
mod resource_class;
mod slots;

pub use admission::{Digest, NotAdmitted, Reason, digest};
pub use admission_report::{AdmissionReport, SampleRun};
pub use compile_process::{CompileError, compile_component};
pub use compiler::{COMPILE_COMMAND, CompileLimits, Compiler, INVALID_COMPONENT};
pub use description::{ConfigKey, Configuration, Description, Subscription};
pub use engine::{Sandbox, SandboxError, SandboxSettings};
pub use executor::{Executor, Overloaded};
pub use failure::Failure;
pub use guest::{LogLevel, LogLine};
pub use projection::{Answer, Projection, Rejection, Timings};
pub use projector::{Compilation, Projector, Warm};
pub use resource_class::{Class, Limits};
pub use slots::Caller;
