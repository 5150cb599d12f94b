//! All SQL, and the writer that commits groups of events.
//!
//! [`Store`] hides which database is used. Only the [`Writer`] appends events to the log: it gathers the batches that
//! the pipeline submits into groups, commits each group in one transaction, then answers the senders and wakes the
//! readers.

mod address;
mod audit;
mod audit_log;
mod batch;
mod beat;
mod clock;
mod commit_plan;
mod dead_letter;
mod delivery;
mod error;
mod fail_point;
mod lease;
mod log_entry;
mod log_page;
mod migrations;
mod operations;
mod parked;
mod pause;
mod postgres;
mod release;
mod retention;
mod rollout;
mod rows;
mod settings;
mod sink;
mod source;
mod sqlite;
mod submission;
mod submitted;
mod tcp_keepalive;
mod token;
mod trial;
mod unstorable;
mod writer;

pub use audit::{AuditEntry, SinkReach};
pub use audit_log::{Change, ChangeFilter, NewChange, Replayed};
pub use batch::{Advance, Batch, BatchChain, BatchReceipt, Unreadable};
pub use beat::Beat;
pub use clock::now_ms;
pub use dead_letter::{DeadLetter, DeadLetterFilter, DeadLetterGroup, Redrive, RedriveOutcome, Redriven, Settled};
pub use delivery::{Activation, Delivery, DeliveryState};
pub use error::{OpenError, StoreError};
#[cfg(feature = "failpoints")]
#[doc(hidden)]
pub use fail;
pub use fail_point::arm_crash_points;
pub use lease::{LEASE, Lease, LeaseState};
pub use log_entry::{EventHistory, LogEntry, NotificationHistory, Withheld};
pub use log_page::{LogPage, NOTIFICATION_PAGE_BYTES, RelayEntry};
pub use operations::Store;
pub use parked::{
    HeldTopic, NewParked, NewParkedRequest, PARKED_BEHIND, Parked, ParkedEntry, ParkedFilter, ParkedLine,
    ParkedRequest, ParkedScope,
};
pub use pause::{Pause, Paused};
pub use postgres::{
    Activity, DatabaseDoctor, Headroom, LockHolder, MigrateReport, Server, SourceState, State as DatabaseState, migrate,
};
pub use release::{AddRelease, Added, ComponentSignature, NewRelease, Release, ReleaseName};
pub use retention::{KeepFor, Retired};
pub use rollout::{Candidate, Rollout};
pub use settings::StoreSettings;
pub use sink::{Backlog, ForgetSink, MAX_BACKLOG, Sink, SkipGap};
pub use source::{SourcePartition, SourcePosition};
pub use submission::{
    NewDeadLetter, NewEvent, NewNotification, Origin, Receipt, Submission, UNSTORABLE, WITHHELD_EXPIRED,
    WITHHELD_ISSUED, WITHHELD_MUTED,
};
pub use submitted::{LAST_DRAWN_ID, Submitted, SubmittedError, SubmittedEvent, SubmittedSettings, migrate_submit};
pub use token::{NewToken, Token};
pub use trial::{Trial, TrialChange, TrialStep};
pub use writer::{PendingReceipt, Writer, WriterGone, WriterSettings};
