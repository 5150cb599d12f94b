//! All SQL, and the writer that commits groups of events.
//!
//! [`Store`] hides which database is behind it. The [`Writer`] is the only one who appends to the log: it gathers what
//! the pipeline hands over into groups, commits each group in one transaction, then answers and wakes the readers.

mod error;
mod log_entry;
mod release;
mod sqlite;
mod store;
mod submission;
mod writer;

pub use error::{OpenError, StoreError};
pub use log_entry::{DeadLetter, EventHistory, LogEntry, NotificationHistory, Withheld};
pub use release::{AddRelease, Added, NewRelease, Release, Rollout};
pub use store::{Retired, Store};
pub use submission::{
    NewDeadLetter, NewEvent, NewNotification, Receipt, Submission, WITHHELD_EXPIRED, WITHHELD_ISSUED,
};
pub use writer::{PendingReceipts, Writer, WriterGone, WriterSettings};
