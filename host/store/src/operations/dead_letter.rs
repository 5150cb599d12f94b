use crate::{DeadLetter, DeadLetterFilter, DeadLetterGroup, Redrive, Redriven, Store, StoreError};

impl Store {
    /// Returns the pending dead letters in groups, the largest group first.
    pub async fn dead_letter_groups(&self, filter: &DeadLetterFilter) -> Result<Vec<DeadLetterGroup>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.dead_letter_groups(filter).await,
            Self::Postgres(postgres) => postgres.dead_letter_groups(filter).await,
        }
    }

    /// Returns up to `limit` pending dead letters with numbers above `after`, in the order in which they were recorded.
    /// Their bytes are left out.
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

    /// Returns one dead letter, pending or settled.
    pub async fn dead_letter(&self, id: i64) -> Result<Option<DeadLetter>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.dead_letter(id).await,
            Self::Postgres(postgres) => postgres.dead_letter(id).await,
        }
    }

    /// Records the outcome of a redrive in one transaction: the dead letter is settled, identities are issued and
    /// notifications are appended, or nothing is changed.
    pub async fn redrive(&self, redrive: &Redrive, now_ms: i64) -> Result<Redriven, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.redrive(redrive, now_ms).await,
            Self::Postgres(postgres) => postgres.redrive(redrive, now_ms).await,
        }
    }

    /// Settles pending dead letters without another attempt. Returns their number.
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
