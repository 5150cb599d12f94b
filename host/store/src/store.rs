use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use belfry_model::ContentHash;
use futures_util::FutureExt;
use uuid::Uuid;

use crate::address::Address;
use crate::postgres::Postgres;
use crate::sqlite::Sqlite;
use crate::{
    AddRelease, AuditEntry, Backlog, Batch, BatchReceipt, Beat, ComponentSignature, EventHistory, Lease, LogEntry,
    LogPage, NewChange, NewParked, NewRelease, NotificationHistory, OpenError, Pause, Paused, Release, ReleaseName,
    Rollout, SinkReach, SourcePartition, SourcePosition, StoreError, Submission, crash_point,
};

/// The database, SQLite or PostgreSQL. Cheap to clone.
#[derive(Clone)]
pub enum Store {
    /// An embedded database, for one process.
    Sqlite(Sqlite),
    /// A database server, for several replicas.
    Postgres(Postgres),
}

/// Settings of a store. All but `url` and `create` apply to PostgreSQL only.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// `sqlite:PATH` or `postgres://…`.
    pub url: String,
    /// Connections for reading; the writer and the heartbeat have one more each.
    pub max_connections: u32,
    /// Time limit to open a connection, or to get one from the pool.
    pub connect_timeout: Duration,
    /// Time limit for a statement.
    pub statement_timeout: Duration,
    /// Time limit to wait for a lock.
    pub lock_timeout: Duration,
    /// Migrate the schema at startup; otherwise an old schema is rejected.
    pub migrate: bool,
    /// Create the SQLite file if it does not exist.
    pub create: bool,
    /// Number of log positions in one partition.
    pub partition_entries: i64,
}

impl StoreSettings {
    /// Returns the default settings for a database.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            max_connections: 8,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(5),
            migrate: true,
            create: true,
            partition_entries: 1_000_000,
        }
    }

    /// Returns the settings for a command that runs alongside the service, and that may be older or newer than the
    /// service: no database is created, and a server's schema is not migrated.
    pub fn beside_the_service(self) -> Self {
        Self { migrate: false, create: false, max_connections: 1, ..self }
    }
}

impl Store {
    /// Opens the database that the settings name, and migrates its schema if they request it.
    pub async fn open(settings: &StoreSettings) -> Result<Self, OpenError> {
        settings.check()?;
        match settings.address()? {
            Address::Sqlite(path) => {
                if !settings.create && !path.exists() {
                    return Err(OpenError::Missing(path.to_owned()));
                }
                Ok(Self::Sqlite(Sqlite::open(path).await?))
            }
            Address::Postgres => Ok(Self::Postgres(Postgres::open(settings).await?)),
        }
    }

    /// Returns those of these events that were recorded before, with the hashes of their content.
    pub async fn known(&self, event_ids: &[Uuid]) -> Result<HashMap<Uuid, ContentHash>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.known(event_ids).await,
            Self::Postgres(postgres) => postgres.known(event_ids).await,
        }
    }

    /// Commits a group in one transaction. Returns the receipts in the order of the batches. A panic counts as a
    /// refusal, so that a bug in Belfry that one event triggers affects only that event.
    pub(crate) async fn commit(&self, group: &[Batch], now_ms: i64) -> Result<Vec<BatchReceipt>, StoreError> {
        let committing = async {
            crash_point!("commit.begin");
            match self {
                Self::Sqlite(sqlite) => sqlite.commit(group, now_ms).await,
                Self::Postgres(postgres) => postgres.commit(group, now_ms).await,
            }
        };
        AssertUnwindSafe(committing).catch_unwind().await.unwrap_or_else(|_| Err(panicked()))
    }

    /// Stages an event as a commit would, and rolls back. Fails if the database cannot hold the event.
    pub(crate) async fn try_out(&self, submission: &Submission, now_ms: i64) -> Result<(), StoreError> {
        let trying = async {
            match self {
                Self::Sqlite(sqlite) => sqlite.try_out(submission, now_ms).await,
                Self::Postgres(postgres) => postgres.try_out(submission, now_ms).await,
            }
        };
        AssertUnwindSafe(trying).catch_unwind().await.unwrap_or_else(|_| Err(panicked()))
    }

    /// Commits a transaction that changes nothing. Fails if nothing can be committed.
    pub(crate) async fn try_to_write(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.try_to_write().await,
            Self::Postgres(postgres) => postgres.try_to_write().await,
        }
    }

    /// Checks that the database file is still the one that was opened. A server takes care of its own files.
    pub(crate) fn check_file(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.check_file(),
            Self::Postgres(_) => Ok(()),
        }
    }

    /// Returns the lowest position still in the log and the highest position ever assigned, or 0 for both if the log
    /// has always been empty. If all entries were retired, the lowest is one more than the highest.
    pub async fn log_bounds(&self) -> Result<(i64, i64), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.log_bounds().await,
            Self::Postgres(postgres) => postgres.log_bounds().await,
        }
    }

    /// Returns up to `limit` entries after a position that have a topic.
    pub async fn read_relay(&self, after: i64, limit: u32) -> Result<LogPage, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.read_relay(after, limit).await,
            Self::Postgres(postgres) => postgres.read_relay(after, limit).await,
        }
    }

    /// Returns up to `limit` notifications with positions above `after` and up to `up_to`, in order; of one recipient
    /// only, if given. The size of the page in bytes is limited as well, so only an empty page means that there are no
    /// more.
    pub async fn read_notifications(
        &self,
        after: i64,
        up_to: i64,
        limit: u32,
        recipient: Option<&str>,
    ) -> Result<Vec<LogEntry>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.read_notifications(after, up_to, limit, recipient).await,
            Self::Postgres(postgres) => postgres.read_notifications(after, up_to, limit, recipient).await,
        }
    }

    /// Returns an event and everything that resulted from it.
    pub async fn event(&self, event_id: Uuid) -> Result<Option<EventHistory>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.event(event_id).await,
            Self::Postgres(postgres) => postgres.event(event_id).await,
        }
    }

    /// Returns the position of an event in the log.
    pub async fn position_of(&self, event_id: Uuid) -> Result<Option<i64>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.position_of(event_id).await,
            Self::Postgres(postgres) => postgres.position_of(event_id).await,
        }
    }

    /// Returns the positions of those events that are in the log.
    pub async fn positions_of(&self, event_ids: &[Uuid]) -> Result<HashMap<Uuid, i64>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.positions_of(event_ids).await,
            Self::Postgres(postgres) => postgres.positions_of(event_ids).await,
        }
    }

    /// Returns a notification, issued or withheld.
    pub async fn notification(&self, notification_id: Uuid) -> Result<Option<NotificationHistory>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.notification(notification_id).await,
            Self::Postgres(postgres) => postgres.notification(notification_id).await,
        }
    }

    /// Adds a release. Adding the same release again is safe.
    pub async fn add_release(&self, release: &NewRelease, now_ms: i64) -> Result<AddRelease, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.add_release(release, now_ms).await,
            Self::Postgres(postgres) => postgres.add_release(release, now_ms).await,
        }
    }

    /// Returns all releases, oldest first; of one projector only, if given.
    pub async fn releases(&self, projector: Option<&str>) -> Result<Vec<Release>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.releases(projector).await,
            Self::Postgres(postgres) => postgres.releases(projector).await,
        }
    }

    /// Returns the names of all releases.
    pub async fn release_names(&self) -> Result<Vec<ReleaseName>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.release_names().await,
            Self::Postgres(postgres) => postgres.release_names().await,
        }
    }

    /// Returns one release.
    pub async fn release(&self, release_id: i64) -> Result<Option<Release>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.release(release_id).await,
            Self::Postgres(postgres) => postgres.release(release_id).await,
        }
    }

    /// Returns the bytes of a release's component.
    pub async fn component(&self, digest: &[u8; 32]) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.component(digest).await,
            Self::Postgres(postgres) => postgres.component(digest).await,
        }
    }

    /// Returns all signatures of components, each with the digest of its component.
    pub async fn component_signatures(&self) -> Result<Vec<([u8; 32], ComponentSignature)>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.component_signatures().await,
            Self::Postgres(postgres) => postgres.component_signatures().await,
        }
    }

    /// Activates releases for their projectors: all of them, or none.
    pub async fn activate(&self, releases: &[&Release], created_by: &str, now_ms: i64) -> Result<(), StoreError> {
        let activated = releases.iter().map(|release| (*release, NewChange::activated(release, created_by)));
        let changes: Vec<_> = activated.collect();
        self.serve(&changes, now_ms).await
    }

    /// Activates the release again that served its projector before.
    pub async fn roll_back(&self, release: &Release, created_by: &str, now_ms: i64) -> Result<(), StoreError> {
        self.serve(&[(release, NewChange::rolled_back(release, created_by))], now_ms).await
    }

    async fn serve(&self, changes: &[(&Release, NewChange)], now_ms: i64) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.serve(changes, now_ms).await,
            Self::Postgres(postgres) => postgres.serve(changes, now_ms).await,
        }
    }

    /// Suspends a release if it still serves: the previous release serves again, or none. Returns whether it was
    /// suspended.
    pub async fn suspend(&self, release: &Release, reason: &str, now_ms: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.suspend(release, reason, now_ms).await,
            Self::Postgres(postgres) => postgres.suspend(release, reason, now_ms).await,
        }
    }

    /// Returns the pauses that are in effect.
    pub async fn pauses(&self) -> Result<Vec<Pause>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.pauses().await,
            Self::Postgres(postgres) => postgres.pauses().await,
        }
    }

    /// Pauses something, with a reason, or resumes it.
    pub async fn pause(
        &self,
        what: &Paused,
        reason: Option<&str>,
        created_by: &str,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.pause(what, reason, created_by, now_ms).await,
            Self::Postgres(postgres) => postgres.pause(what, reason, created_by, now_ms).await,
        }
    }

    /// Activates a release, unless any release serves or has served.
    pub async fn activate_first(&self, release: &Release, created_by: &str, now_ms: i64) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.activate_first(release, created_by, now_ms).await,
            Self::Postgres(postgres) => postgres.activate_first(release, created_by, now_ms).await,
        }
    }

    /// Retires a projector, unless it has changed since `rollout`: no release serves it any more. Returns whether it
    /// was retired.
    pub async fn retire_projector(
        &self,
        rollout: &Rollout,
        reason: &str,
        created_by: &str,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.retire_projector(rollout, reason, created_by, now_ms).await,
            Self::Postgres(postgres) => postgres.retire_projector(rollout, reason, created_by, now_ms).await,
        }
    }

    /// Returns the current rollout of each projector, ordered by name. Retired projectors are included.
    pub async fn rollouts(&self) -> Result<Vec<Rollout>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.rollouts().await,
            Self::Postgres(postgres) => postgres.rollouts().await,
        }
    }

    /// Performs a heartbeat: reads what has changed and who holds which lease, and renews the leases of `owner`.
    pub async fn beat(&self, owner: Uuid) -> Result<Beat, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.beat(owner).await,
            Self::Postgres(postgres) => postgres.beat(owner).await,
        }
    }

    /// Registers a sink that has no position yet. It begins after `position`. Returns whether it is new.
    pub async fn register_sink(&self, sink: &str, position: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.register_sink(sink, position).await,
            Self::Postgres(postgres) => postgres.register_sink(sink, position).await,
        }
    }

    /// Takes a registered sink's lease if it has expired or belongs to `owner`. Returns `None` while another owner
    /// holds it.
    pub async fn acquire_lease(&self, sink: &str, owner: Uuid) -> Result<Option<Lease>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.acquire_lease(sink, owner).await,
            Self::Postgres(postgres) => postgres.acquire_lease(sink, owner).await,
        }
    }

    /// Records how far a sink has been served and which entries it refused, and renews the lease. Returns false if the
    /// lease has expired or has another holder: then nothing was recorded, and nothing more may be sent.
    pub async fn checkpoint(
        &self,
        sink: &str,
        epoch: i64,
        position: i64,
        parked: &[NewParked],
    ) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.checkpoint(sink, epoch, position, parked).await,
            Self::Postgres(postgres) => postgres.checkpoint(sink, epoch, position, parked).await,
        }
    }

    /// Returns what a sink missed while it was switched off; `None` if nothing was recorded in that time.
    pub async fn backlog(&self, sink: &str) -> Result<Option<Backlog>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.backlog(sink).await,
            Self::Postgres(postgres) => postgres.backlog(sink).await,
        }
    }

    /// Moves a sink that no replica serves to the end of the log, and records the entries that it never gets. Returns
    /// their number.
    pub async fn skip_backlog(&self, sink: &str) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.skip_backlog(sink).await,
            Self::Postgres(postgres) => postgres.skip_backlog(sink).await,
        }
    }

    /// Makes the lease available to other replicas at once, because this one cannot serve the sink now.
    pub async fn lend_lease(&self, sink: &str, epoch: i64) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.lend_lease(sink, epoch).await,
            Self::Postgres(postgres) => postgres.lend_lease(sink, epoch).await,
        }
    }

    /// Makes the lease available to other replicas at once, because this one stops. Until another replica takes it, the
    /// sink counts as off.
    pub async fn release_lease(&self, sink: &str, epoch: i64) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.release_lease(sink, epoch).await,
            Self::Postgres(postgres) => postgres.release_lease(sink, epoch).await,
        }
    }

    /// Returns the positions of a group's sources; of one topic only, if given.
    pub async fn source_positions(&self, group: &str, topic: Option<&str>) -> Result<Vec<SourcePosition>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.source_positions(group, topic).await,
            Self::Postgres(postgres) => postgres.source_positions(group, topic).await,
        }
    }

    /// Returns the position of a partition. A partition without a position gets `start`.
    pub async fn begin_source(&self, partition: &SourcePartition, start: i64) -> Result<i64, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.begin_source(partition, start).await,
            Self::Postgres(postgres) => postgres.begin_source(partition, start).await,
        }
    }

    /// Registers partitions atomically: other readers see none of them or all. Partitions that have a position keep it.
    pub async fn begin_sources(&self, starts: &[SourcePosition]) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.begin_sources(starts).await,
            Self::Postgres(postgres) => postgres.begin_sources(starts).await,
        }
    }

    /// Records the id of a topic that a group reads, for those of its partitions that have none.
    pub async fn note_topic_id(&self, group: &str, topic: &str, topic_id: &str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.note_topic_id(group, topic, topic_id).await,
            Self::Postgres(postgres) => postgres.note_topic_id(group, topic, topic_id).await,
        }
    }

    /// Sets the position of a partition. Its current reader is fenced off and begins there. Returns the previous
    /// position.
    pub async fn set_source_position(
        &self,
        position: &SourcePosition,
        by: &str,
        now_ms: i64,
    ) -> Result<Option<i64>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.set_source_position(position, by, now_ms).await,
            Self::Postgres(postgres) => postgres.set_source_position(position, by, now_ms).await,
        }
    }

    /// Returns how far a sink has been served, if it is registered.
    pub async fn sink_reach(&self, sink: &str) -> Result<Option<SinkReach>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.sink_reach(sink).await,
            Self::Postgres(postgres) => postgres.sink_reach(sink).await,
        }
    }

    /// Returns the first position that was recorded at this time or later.
    pub async fn first_position_since(&self, ms: i64) -> Result<Option<i64>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.first_position_since(ms).await,
            Self::Postgres(postgres) => postgres.first_position_since(ms).await,
        }
    }

    /// Returns up to `limit` entries that have a topic, with positions above `after` and up to `up_to`, in order,
    /// without their content. `now_ms` is for a store that does not record when its sinks acknowledged entries.
    pub async fn read_audit(
        &self,
        sink: &str,
        after: i64,
        up_to: i64,
        limit: u32,
        now_ms: i64,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.read_audit(sink, after, up_to, limit, now_ms).await,
            Self::Postgres(postgres) => postgres.read_audit(sink, after, up_to, limit).await,
        }
    }

    /// Returns those of these ids that are in the log, or that have left it and are still recorded as taken or issued.
    pub async fn taken_or_issued(&self, ids: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.taken_or_issued(ids).await,
            Self::Postgres(postgres) => postgres.taken_or_issued(ids).await,
        }
    }

    /// Writes pending data back, and closes the database.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(sqlite) => sqlite.close().await,
            Self::Postgres(postgres) => postgres.close().await,
        }
    }
}

fn panicked() -> StoreError {
    StoreError::Refused("belfry failed during the commit, which is a bug in belfry".into())
}
