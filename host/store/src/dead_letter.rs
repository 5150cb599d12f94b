//! What projectors could not project and sources could not read: what waits, and what became of it.

use uuid::Uuid;

use crate::{NewNotification, Origin, Store, StoreError};

/// An event that a projector could not project, or a record that is no new event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number.
    pub id: i64,
    /// The event; none if not even its id could be read.
    pub event_id: Option<Uuid>,
    /// The projector; none if no projector saw it.
    pub projector: Option<String>,
    /// Its release.
    pub release_id: Option<i64>,
    /// Of a record: where it was read.
    pub origin: Option<Origin>,
    /// Of a record: its bytes. Of an event they stand in the log.
    pub payload: Option<Vec<u8>>,
    /// From the vocabulary of outcomes.
    pub cause: String,
    /// In words for operators.
    pub detail: String,
    /// When it was recorded.
    pub created_at_ms: i64,
    /// What became of it; none while it waits.
    pub settled: Option<Settled>,
}

/// What became of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// `redriven` or `discarded`.
    pub how: String,
    /// Who settled it.
    pub by: String,
    /// When.
    pub at_ms: i64,
    /// Why it was discarded.
    pub reason: Option<String>,
    /// The first of the notifications that came of it in the log, and how many there are.
    pub notifications: Option<(i64, u32)>,
}

/// Which dead letters are meant: those that wait and to which all of this applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// This one.
    pub id: Option<i64>,
    /// Those of this projector.
    pub projector: Option<String>,
    /// Those of this release.
    pub release_id: Option<i64>,
    /// Those of this cause.
    pub cause: Option<String>,
    /// Of those rejected, those with this code.
    pub code: Option<String>,
    /// Those recorded since.
    pub since_ms: Option<i64>,
}

/// Dead letters that wait and have projector, release, cause and code in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterGroup {
    /// None if no projector saw them.
    pub projector: Option<String>,
    /// The release.
    pub release_id: Option<i64>,
    /// From the vocabulary of outcomes.
    pub cause: String,
    /// Of those rejected.
    pub code: Option<String>,
    /// How many there are.
    pub count: i64,
    /// When the first of them was recorded.
    pub first_ms: i64,
    /// When the last was.
    pub last_ms: i64,
    /// The number of the last.
    pub last_id: i64,
}

/// Another try of an event that was a dead letter.
#[derive(Clone, Debug)]
pub struct Redrive {
    /// The dead letter.
    pub id: i64,
    /// Its event, which stands in the log already.
    pub event: Uuid,
    /// What came of it.
    pub outcome: RedriveOutcome,
    /// Who asked for it.
    pub by: String,
}

/// What came of another try.
#[derive(Clone, Debug)]
pub enum RedriveOutcome {
    /// These, perhaps none.
    Notifications {
        /// In the order in which they are to stand in the log.
        notifications: Vec<NewNotification>,
        /// Whether they are withheld, whatever they say.
        muted: bool,
    },
    /// The release that serves now cannot project it either: it waits on.
    StillDead {
        /// The release.
        release_id: i64,
        /// From the vocabulary of outcomes.
        cause: &'static str,
        /// In words for operators.
        detail: String,
    },
}

/// What a redrive did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redriven {
    /// For each notification, in order: appended to the log, or the reason why it is withheld.
    Told(Vec<Result<i64, &'static str>>),
    /// It waits on.
    StillDead,
    /// Somebody else settled it meanwhile: nothing was done.
    Settled,
}

impl Store {
    /// What waits, in groups; those with most first.
    pub async fn dead_letter_groups(&self, filter: &DeadLetterFilter) -> Result<Vec<DeadLetterGroup>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.dead_letter_groups(filter).await,
            Self::Postgres(postgres) => postgres.dead_letter_groups(filter).await,
        }
    }

    /// Up to `limit` that wait, after a number, in the order in which their events were recorded. Without bytes.
    pub async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.dead_letters(filter, after, limit).await,
            Self::Postgres(postgres) => postgres.dead_letters(filter, after, limit).await,
        }
    }

    /// One of them, settled or not.
    pub async fn dead_letter(&self, id: i64) -> Result<Option<DeadLetter>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.dead_letter(id).await,
            Self::Postgres(postgres) => postgres.dead_letter(id).await,
        }
    }

    /// Note what came of another try, in one transaction: the dead letter is settled, identities are issued and
    /// notifications appended, or none of it.
    pub async fn redrive(&self, redrive: &Redrive, now_ms: i64) -> Result<Redriven, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.redrive(redrive, now_ms).await,
            Self::Postgres(postgres) => postgres.redrive(redrive, now_ms).await,
        }
    }

    /// Settle what waits without another try; gives how many that were.
    pub async fn discard_dead_letters(
        &self,
        filter: &DeadLetterFilter,
        by: &str,
        reason: &str,
        now_ms: i64,
    ) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.discard_dead_letters(filter, by, reason, now_ms).await,
            Self::Postgres(postgres) => postgres.discard_dead_letters(filter, by, reason, now_ms).await,
        }
    }
}
