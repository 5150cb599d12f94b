//! Runs a built projector against case files, in the host's own sandbox.
//!
//! A case is a file `cases/NAME.json`:
//!
//! ```json
//! {
//!   "event": "events/results_ready.json",
//!   "config": { "deadline_hours": 24 },
//!   "expect": { "notifications": [] }
//! }
//! ```
//!
//! - `event` is an envelope, or the path of a file that contains one, relative to the case's folder. Keep such files in
//!   a separate folder: every `.json` file directly in the folder of the cases is a case.
//! - `config` is the release's configuration; without it the rule has its defaults.
//! - `expect` is one of `{"notifications": […]}`, `{"rejection": {"code": "…"}}` and `{"outcome": "timed-out"}`. Names
//!   are those of the contract in snake_case, the payload is an object, and `deadline` and `expires_at` are RFC 3339.
//!   Fields with their default (an empty `key`, no action, nulls) may be omitted. Numbers are compared by their exact
//!   value: `1` equals `1.0`.
//!
//! Unknown names are errors, so that a misspelt name cannot make a case pass. `belfry plugin test` runs the cases of a
//! component; [`assert_cases`] runs the same cases under `cargo test`. To accept the actual results, pass `--update` or
//! set `BELFRY_UPDATE=1`.

mod accept;
mod assert;
mod case_directory;
mod case_file;
mod compare;
mod expectation;
mod json;
mod measurement;
mod report;
mod suite;
mod visible;

pub use assert::{assert_cases, update_requested};
pub use case_directory::CasesError;
pub use case_file::CaseError;
pub use compare::Difference;
pub use expectation::{Expectation, ExpectedNotification, ExpectedRejection};
pub use json::Json;
pub use measurement::{Measurement, Percentiles};
pub use report::{CaseReport, Verdict};
pub use suite::{LoadError, Suite};
