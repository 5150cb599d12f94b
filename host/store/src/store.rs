use std::collections::HashMap;
use std::path::Path;

use belfry_model::ContentHash;
use uuid::Uuid;

use crate::sqlite::Sqlite;
use crate::{
    AddRelease, EventHistory, LogEntry, NewRelease, NotificationHistory, OpenError, Receipt, Release, Rollout,
    StoreError, Submission,
};

/// The database, whichever it is. Cheap to clone.
#[derive(Clone)]
pub enum Store {
    /// Embedded, for one process.
    Sqlite(Sqlite),
}

/// What retention removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// Rows of the log, withheld notifications and dead letters.
    pub log: u64,
    /// Rows of the inbox and of the issued identities.
    pub inbox: u64,
}

impl Store {
    /// Open the database that `url` names, make it ours alone, and bring its schema up to date.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        match url.split_once(':') {
            Some(("sqlite", path)) => Ok(Self::Sqlite(Sqlite::open(Path::new(path.trim_start_matches("//"))).await?)),
            _ => Err(OpenError::UnknownUrl(url.split(['@', '?']).next().unwrap_or_default().to_owned())),
        }
    }

    /// Of these events, those taken before, with the hash of their content.
    pub async fn known(&self, event_ids: &[Uuid]) -> Result<HashMap<Uuid, ContentHash>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.known(event_ids).await,
        }
    }

    /// Commit a group in one transaction. Receipts stand in the order of the submissions.
    pub(crate) async fn commit(&self, group: &[Submission], now_ms: i64) -> Result<Vec<Receipt>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.commit(group, now_ms).await,
        }
    }

    /// The lowest position still in the log and the highest ever given, or 0 for both if it has always been empty. If
    /// everything was retired, the lowest is one more than the highest.
    pub async fn log_bounds(&self) -> Result<(i64, i64), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.log_bounds().await,
        }
    }

    /// Up to `limit` entries that have a topic, after a position, in order.
    pub async fn read_published(&self, after: i64, limit: u32) -> Result<Vec<LogEntry>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.read_published(after, limit).await,
        }
    }

    /// Up to `limit` notifications after one position and up to another, in order; of one recipient only, if given.
    pub async fn read_notifications(
        &self,
        after: i64,
        up_to: i64,
        limit: u32,
        recipient: Option<&str>,
    ) -> Result<Vec<LogEntry>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.read_notifications(after, up_to, limit, recipient).await,
        }
    }

    /// An event and everything that came of it.
    pub async fn event(&self, event_id: Uuid) -> Result<Option<EventHistory>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.event(event_id).await,
        }
    }

    /// The position of an event in the log.
    pub async fn position_of(&self, event_id: Uuid) -> Result<Option<i64>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.position_of(event_id).await,
        }
    }

    /// A notification, sent or not.
    pub async fn notification(&self, notification_id: Uuid) -> Result<Option<NotificationHistory>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.notification(notification_id).await,
        }
    }

    /// Add a release; harmless if it is there.
    pub async fn add_release(&self, release: &NewRelease, now_ms: i64) -> Result<AddRelease, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.add_release(release, now_ms).await,
        }
    }

    /// All releases, oldest first; of one projector only, if given.
    pub async fn releases(&self, projector: Option<&str>) -> Result<Vec<Release>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.releases(projector).await,
        }
    }

    /// One release.
    pub async fn release(&self, release_id: i64) -> Result<Option<Release>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.release(release_id).await,
        }
    }

    /// The bytes of a release's component.
    pub async fn component(&self, digest: &[u8; 32]) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.component(digest).await,
        }
    }

    /// Let a release serve its projector from now on.
    pub async fn activate(&self, release: &Release, created_by: &str, now_ms: i64) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.activate(release, created_by, now_ms).await,
        }
    }

    /// Which releases serve, by projector's name.
    pub async fn rollouts(&self) -> Result<Vec<Rollout>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.rollouts().await,
        }
    }

    /// How far a sink has read; none if it is new.
    pub async fn relay_position(&self, sink: &str) -> Result<Option<i64>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.relay_position(sink).await,
        }
    }

    /// Note how far a sink has read.
    pub async fn set_relay_position(&self, sink: &str, position: i64) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.set_relay_position(sink, position).await,
        }
    }

    /// Remove up to `limit` rows of each kind that are older than these times; of the log none after `up_to`.
    pub async fn retire(
        &self,
        up_to: i64,
        log_before_ms: i64,
        inbox_before_ms: i64,
        limit: u32,
    ) -> Result<Retired, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.retire(up_to, log_before_ms, inbox_before_ms, limit).await,
        }
    }

    /// Write back what is in memory and let go of the files.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(sqlite) => sqlite.close().await,
        }
    }
}
