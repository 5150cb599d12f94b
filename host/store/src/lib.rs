//! All SQL, and the writer that commits groups of events.
//!
//! [`Store`] hides which database is used. Only the [`Writer`] appends events to the log: it gathers the batches that
//! the pipeline submits into groups, commits each group in one transaction, then answers the senders and wakes the
//! readers.

mod address;
mod audit;
mod audit_log;
mod batch;
mod commit_plan;
mod crash_point;
mod dead_letter;
mod delivery;
mod error;
mod log_entry;
mod migrations;
mod parked;
mod pause;
mod postgres;
mod range;
mod relay;
mod release;
mod retention;
mod server_keepalive;
mod sink;
mod sqlite;
mod store;
mod submission;
mod submitted;
mod token;
mod trial;
mod unstorable;
mod writer;

pub use audit::{AuditEntry, SinkReach};
pub use audit_log::{Change, ChangeFilter, NewChange, Replayed};
pub use batch::{Advance, Batch, BatchChain, BatchReceipt, SourcePartition, SourcePosition, Unreadable};
pub use crash_point::arm_crash_points;
pub use dead_letter::{DeadLetter, DeadLetterFilter, DeadLetterGroup, Redrive, RedriveOutcome, Redriven, Settled};
pub use delivery::{Activation, Delivery, DeliveryState};
pub use error::{OpenError, StoreError};
#[doc(hidden)]
pub use fail;
pub use log_entry::{EventHistory, LogEntry, NotificationHistory, Withheld};
pub use pause::{Pause, Paused};
pub use postgres::{
    Activity, DatabaseDoctor, Headroom, LockHolder, MigrateReport, Server, SourceState, State as DatabaseState, migrate,
};
pub use relay::{
    Backlog, Beat, HeldTopic, LEASE, Lease, LeaseState, LogPage, MAX_BACKLOG, NOTIFICATION_PAGE_BYTES, NewParked,
    NewParkedRequest, PARKED_BEHIND, Parked, ParkedEntry, ParkedFilter, ParkedLine, ParkedRequest, ParkedScope,
    RelayEntry,
};
pub use release::{AddRelease, Added, ComponentSignature, NewRelease, Release, ReleaseName, Rollout};
pub use retention::{KeepFor, Retired};
pub use sink::{ForgetSink, Sink, SkipGap};
pub use store::{Store, StoreSettings};
pub use submission::{
    NewDeadLetter, NewEvent, NewNotification, Origin, Receipt, Submission, UNSTORABLE, WITHHELD_EXPIRED,
    WITHHELD_ISSUED, WITHHELD_MUTED,
};
pub use submitted::{LAST_DRAWN_ID, Submitted, SubmittedError, SubmittedEvent, SubmittedSettings, migrate_submit};
pub use token::{NewToken, Token};
pub use trial::{Candidate, Trial, TrialChange, TrialStep};
pub use writer::{PendingReceipt, Writer, WriterGone, WriterSettings};
