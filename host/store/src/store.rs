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

/// The database, whichever it is. Cheap to clone.
#[derive(Clone)]
pub enum Store {
    /// Embedded, for one process.
    Sqlite(Sqlite),
    /// A server, for several replicas.
    Postgres(Postgres),
}

/// How a store is opened. All but `url` are about PostgreSQL only.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// `sqlite:PATH` or `postgres://…`.
    pub url: String,
    /// Connections for reading; one more is the writer's, and one the heartbeat's.
    pub max_connections: u32,
    /// How long a connection may take to come about, or to become free.
    pub connect_timeout: Duration,
    /// How long a statement may take.
    pub statement_timeout: Duration,
    /// How long a statement may wait for a lock.
    pub lock_timeout: Duration,
    /// Bring the schema up to date at the start; otherwise an old one is refused.
    pub migrate: bool,
    /// Make a file for SQLite where there is none.
    pub create: bool,
    /// Log positions in one partition.
    pub partition_entries: i64,
}

impl StoreSettings {
    /// The usual settings for a database.
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

    /// The same for a command beside the service, perhaps older or newer than that: no database is made, and a server's
    /// schema is not touched.
    pub fn beside_the_service(self) -> Self {
        Self { migrate: false, create: false, max_connections: 1, ..self }
    }
}

impl Store {
    /// Open the database that the settings name, and bring its schema up to date if they say so.
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

    /// Of these events, those taken before, with the hash of their content.
    pub async fn known(&self, event_ids: &[Uuid]) -> Result<HashMap<Uuid, ContentHash>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.known(event_ids).await,
            Self::Postgres(postgres) => postgres.known(event_ids).await,
        }
    }

    /// Commit a group in one transaction. Receipts are in the order of the batches. A panic is taken for a refusal, so that
    /// a fault of ours that one event brings about harms only that event.
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

    /// Do all that committing an event does, and undo it: whether the database can hold it.
    pub(crate) async fn try_out(&self, submission: &Submission, now_ms: i64) -> Result<(), StoreError> {
        let trying = async {
            match self {
                Self::Sqlite(sqlite) => sqlite.try_out(submission, now_ms).await,
                Self::Postgres(postgres) => postgres.try_out(submission, now_ms).await,
            }
        };
        AssertUnwindSafe(trying).catch_unwind().await.unwrap_or_else(|_| Err(panicked()))
    }

    /// Commit something that changes nothing: whether anything can be committed.
    pub(crate) async fn try_to_write(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.try_to_write().await,
            Self::Postgres(postgres) => postgres.try_to_write().await,
        }
    }

    /// Whether the database's file is still the one that was opened. A server looks after its own.
    pub(crate) fn check_file(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.check_file(),
            Self::Postgres(_) => Ok(()),
        }
    }

    /// The lowest position still in the log and the highest ever given, or 0 for both if it has always been empty. If
    /// everything was retired, the lowest is one more than the highest.
    pub async fn log_bounds(&self) -> Result<(i64, i64), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.log_bounds().await,
            Self::Postgres(postgres) => postgres.log_bounds().await,
        }
    }

    /// Up to `limit` entries that have a topic, after a position.
    pub async fn read_relay(&self, after: i64, limit: u32) -> Result<LogPage, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.read_relay(after, limit).await,
            Self::Postgres(postgres) => postgres.read_relay(after, limit).await,
        }
    }

    /// Up to `limit` notifications after one position and up to another, in order; of one recipient only, if given. A page
    /// that is bounded by bytes has fewer: only one without entries says that there are no more.
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

    /// An event and everything that came of it.
    pub async fn event(&self, event_id: Uuid) -> Result<Option<EventHistory>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.event(event_id).await,
            Self::Postgres(postgres) => postgres.event(event_id).await,
        }
    }

    /// The position of an event in the log.
    pub async fn position_of(&self, event_id: Uuid) -> Result<Option<i64>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.position_of(event_id).await,
            Self::Postgres(postgres) => postgres.position_of(event_id).await,
        }
    }

    /// The positions of those events that are in the log.
    pub async fn positions_of(&self, event_ids: &[Uuid]) -> Result<HashMap<Uuid, i64>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.positions_of(event_ids).await,
            Self::Postgres(postgres) => postgres.positions_of(event_ids).await,
        }
    }

    /// A notification, sent or not.
    pub async fn notification(&self, notification_id: Uuid) -> Result<Option<NotificationHistory>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.notification(notification_id).await,
            Self::Postgres(postgres) => postgres.notification(notification_id).await,
        }
    }

    /// Add a release; harmless if it is there.
    pub async fn add_release(&self, release: &NewRelease, now_ms: i64) -> Result<AddRelease, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.add_release(release, now_ms).await,
            Self::Postgres(postgres) => postgres.add_release(release, now_ms).await,
        }
    }

    /// All releases, oldest first; of one projector only, if given.
    pub async fn releases(&self, projector: Option<&str>) -> Result<Vec<Release>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.releases(projector).await,
            Self::Postgres(postgres) => postgres.releases(projector).await,
        }
    }

    /// What all releases are called.
    pub async fn release_names(&self) -> Result<Vec<ReleaseName>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.release_names().await,
            Self::Postgres(postgres) => postgres.release_names().await,
        }
    }

    /// One release.
    pub async fn release(&self, release_id: i64) -> Result<Option<Release>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.release(release_id).await,
            Self::Postgres(postgres) => postgres.release(release_id).await,
        }
    }

    /// The bytes of a release's component.
    pub async fn component(&self, digest: &[u8; 32]) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.component(digest).await,
            Self::Postgres(postgres) => postgres.component(digest).await,
        }
    }

    /// Who vouches for components: each signature with the digest of its component.
    pub async fn component_signatures(&self) -> Result<Vec<([u8; 32], ComponentSignature)>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.component_signatures().await,
            Self::Postgres(postgres) => postgres.component_signatures().await,
        }
    }

    /// Let releases serve their projectors from now on: all of them, or none.
    pub async fn activate(&self, releases: &[&Release], created_by: &str, now_ms: i64) -> Result<(), StoreError> {
        let activated = releases.iter().map(|release| (*release, NewChange::activated(release, created_by)));
        let changes: Vec<_> = activated.collect();
        self.serve(&changes, now_ms).await
    }

    /// Let the release serve its projector again that served before.
    pub async fn roll_back(&self, release: &Release, created_by: &str, now_ms: i64) -> Result<(), StoreError> {
        self.serve(&[(release, NewChange::rolled_back(release, created_by))], now_ms).await
    }

    async fn serve(&self, changes: &[(&Release, NewChange)], now_ms: i64) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.serve(changes, now_ms).await,
            Self::Postgres(postgres) => postgres.serve(changes, now_ms).await,
        }
    }

    /// Take a release out, if it still serves: the one before serves again, or none. Gives whether it did.
    pub async fn suspend(&self, release: &Release, reason: &str, now_ms: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.suspend(release, reason, now_ms).await,
            Self::Postgres(postgres) => postgres.suspend(release, reason, now_ms).await,
        }
    }

    /// What is at a halt.
    pub async fn pauses(&self) -> Result<Vec<Pause>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.pauses().await,
            Self::Postgres(postgres) => postgres.pauses().await,
        }
    }

    /// Bring something to a halt with a reason, or let it go on.
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

    /// The same, unless any release serves or served already.
    pub async fn activate_first(&self, release: &Release, created_by: &str, now_ms: i64) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.activate_first(release, created_by, now_ms).await,
            Self::Postgres(postgres) => postgres.activate_first(release, created_by, now_ms).await,
        }
    }

    /// Retire a projector, if nothing was changed since `rollout`: no release serves it any more. Returns whether it did.
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

    /// Which releases serve, by projector's name; projectors that are retired are among them.
    pub async fn rollouts(&self) -> Result<Vec<Rollout>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.rollouts().await,
            Self::Postgres(postgres) => postgres.rollouts().await,
        }
    }

    /// Look at the database: what is new, and who holds which lease. Renews the leases of `owner`.
    pub async fn beat(&self, owner: Uuid) -> Result<Beat, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.beat(owner).await,
            Self::Postgres(postgres) => postgres.beat(owner).await,
        }
    }

    /// Make a sink known that has no position yet; it begins after `position`. Gives whether it is new.
    pub async fn register_sink(&self, sink: &str, position: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.register_sink(sink, position).await,
            Self::Postgres(postgres) => postgres.register_sink(sink, position).await,
        }
    }

    /// Take a known sink's lease if it has ended, or anew if it is one's own; none while somebody else holds it.
    pub async fn acquire_lease(&self, sink: &str, owner: Uuid) -> Result<Option<Lease>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.acquire_lease(sink, owner).await,
            Self::Postgres(postgres) => postgres.acquire_lease(sink, owner).await,
        }
    }

    /// Note how far a sink has been served and which entries it refused; renews the lease. Gives false if the lease has
    /// ended or is somebody else's: then nothing was noted, and nothing more may be sent.
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

    /// What a sink has missed that was switched off and on; none if nothing was recorded while it was off.
    pub async fn backlog(&self, sink: &str) -> Result<Option<Backlog>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.backlog(sink).await,
            Self::Postgres(postgres) => postgres.backlog(sink).await,
        }
    }

    /// Let a sink that no replica serves go on at the log's end, and note what it never gets. Returns how many entries that are.
    pub async fn skip_backlog(&self, sink: &str) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.skip_backlog(sink).await,
            Self::Postgres(postgres) => postgres.skip_backlog(sink).await,
        }
    }

    /// Let another replica take the lease at once, for this one cannot serve the sink now.
    pub async fn lend_lease(&self, sink: &str, epoch: i64) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.lend_lease(sink, epoch).await,
            Self::Postgres(postgres) => postgres.lend_lease(sink, epoch).await,
        }
    }

    /// Let another replica take the lease at once, for this one stops. For what is recorded until one does, the sink was off.
    pub async fn release_lease(&self, sink: &str, epoch: i64) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.release_lease(sink, epoch).await,
            Self::Postgres(postgres) => postgres.release_lease(sink, epoch).await,
        }
    }

    /// Where a group's sources stand; of one topic only, if given.
    pub async fn source_positions(&self, group: &str, topic: Option<&str>) -> Result<Vec<SourcePosition>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.source_positions(group, topic).await,
            Self::Postgres(postgres) => postgres.source_positions(group, topic).await,
        }
    }

    /// Where a partition stands; at `start` if it was not known.
    pub async fn begin_source(&self, partition: &SourcePartition, start: i64) -> Result<i64, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.begin_source(partition, start).await,
            Self::Postgres(postgres) => postgres.begin_source(partition, start).await,
        }
    }

    /// Make partitions known, all at once: whoever looks meanwhile sees none of them or all. Those that are known stay
    /// where they are.
    pub async fn begin_sources(&self, starts: &[SourcePosition]) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.begin_sources(starts).await,
            Self::Postgres(postgres) => postgres.begin_sources(starts).await,
        }
    }

    /// Note the id of a topic that a group reads, for those of its partitions for which none is known.
    pub async fn note_topic_id(&self, group: &str, topic: &str, topic_id: &str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.note_topic_id(group, topic, topic_id).await,
            Self::Postgres(postgres) => postgres.note_topic_id(group, topic, topic_id).await,
        }
    }

    /// Let a partition stand somewhere else; the one who reads it is fenced off and begins there. Returns where it stood.
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

    /// How far a sink has been served, if there is such a sink.
    pub async fn sink_reach(&self, sink: &str) -> Result<Option<SinkReach>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.sink_reach(sink).await,
            Self::Postgres(postgres) => postgres.sink_reach(sink).await,
        }
    }

    /// The first position that was recorded at this time or later.
    pub async fn first_position_since(&self, ms: i64) -> Result<Option<i64>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.first_position_since(ms).await,
            Self::Postgres(postgres) => postgres.first_position_since(ms).await,
        }
    }

    /// Up to `limit` entries that have a topic, after one position and up to another, in order, without what they say.
    /// `now_ms` is for a store that does not note when its sinks had what.
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

    /// Of these ids, those that stand in the log, or stood there and are still known.
    pub async fn taken_or_issued(&self, ids: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.taken_or_issued(ids).await,
            Self::Postgres(postgres) => postgres.taken_or_issued(ids).await,
        }
    }

    /// Write back what is in memory and let go of the files.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(sqlite) => sqlite.close().await,
            Self::Postgres(postgres) => postgres.close().await,
        }
    }
}

fn panicked() -> StoreError {
    StoreError::Refused("belfry failed at the commit, which is a fault of its own".into())
}
