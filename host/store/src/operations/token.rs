use crate::{NewToken, Store, StoreError, Token};

impl Store {
    /// Creates a token. Returns `None` if a token of that name exists that is not revoked.
    pub async fn add_token(&self, token: &NewToken, now_ms: i64) -> Result<Option<Token>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.add_token(token, now_ms).await,
            Self::Postgres(postgres) => postgres.add_token(token, now_ms).await,
        }
    }

    /// Returns all tokens that were ever created, oldest first.
    pub async fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.tokens().await,
            Self::Postgres(postgres) => postgres.tokens().await,
        }
    }

    /// Revokes the token of that name. Returns whether there was one.
    pub async fn revoke_token(&self, name: &str, by: &str, now_ms: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.revoke_token(name, by, now_ms).await,
            Self::Postgres(postgres) => postgres.revoke_token(name, by, now_ms).await,
        }
    }

    /// Records when a token was used, at most once a minute. Returns whether it was recorded.
    pub async fn note_token_used(&self, id: i64, now_ms: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.note_token_used(id, now_ms).await,
            Self::Postgres(postgres) => postgres.note_token_used(id, now_ms).await,
        }
    }
}
