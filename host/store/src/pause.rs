use crate::{Store, StoreError};

/// Something that an operator can pause.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Paused {
    /// A rule: its events become dead letters.
    Projector(String),
    /// A sink: entries stay queued in the log.
    Sink(String),
    /// All notifications: they are withheld.
    Notifications,
}

impl Paused {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Projector(_) => "projector",
            Self::Sink(_) => "sink",
            Self::Notifications => "notifications",
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Projector(name) | Self::Sink(name) => name,
            Self::Notifications => "",
        }
    }

    pub(crate) fn of(kind: &str, name: String) -> Option<Self> {
        match kind {
            "projector" => Some(Self::Projector(name)),
            "sink" => Some(Self::Sink(name)),
            "notifications" => Some(Self::Notifications),
            _ => None,
        }
    }
}

/// A pause that is in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// What is paused.
    pub what: Paused,
    /// Why it is paused.
    pub reason: String,
    /// Who paused it.
    pub created_by: String,
    /// When, in milliseconds since the Unix epoch.
    pub created_at_ms: i64,
}

impl Store {
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
}
