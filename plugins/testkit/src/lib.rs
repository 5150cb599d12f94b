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
//! - `event` is an envelope, or the path of a file that holds one, relative to the case's folder. Keep such files in a
//!   folder of their own: every `.json` directly in the cases' folder is taken for a case.
//! - `config` is the release's configuration; without it the rule has its defaults.
//! - `expect` is one of `{"notifications": […]}`, `{"rejection": {"code": "…"}}` and `{"outcome": "timed-out"}`. The
//!   names are the contract's in snake_case, the payload is an object, `deadline` and `expires_at` are RFC 3339, and what
//!   has its default (an empty `key`, no action, nulls) may be left out. Numbers are compared by their exact value: `1` is
//!   `1.0`.
//!
//! Names that are not known are errors, so that a misspelt one cannot make a case pass. `belfry plugin test` runs the
//! cases of a component; [`assert_cases`] runs the same ones under `cargo test`. To accept what came out, give
//! `--update` or set `BELFRY_UPDATE=1`.

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
