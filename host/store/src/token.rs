//! Who may call the API.

use crate::{Store, StoreError};

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Whose it is; no two that count have the same.
    pub name: String,
    /// What it allows.
    pub role: String,
    /// SHA-256 of the token. The token itself is kept nowhere.
    pub sha256: [u8; 32],
    /// Who makes it.
    pub created_by: String,
    /// It does not count after this.
    pub expires_at_ms: Option<i64>,
}

/// Somebody's right to call the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its number.
    pub id: i64,
    /// Whose it is.
    pub name: String,
    /// What it allows.
    pub role: String,
    /// SHA-256 of the token.
    pub sha256: [u8; 32],
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at_ms: i64,
    /// It does not count after this.
    pub expires_at_ms: Option<i64>,
    /// When it was used last, to a minute.
    pub last_used_at_ms: Option<i64>,
    /// Since when it does not count any more.
    pub revoked_at_ms: Option<i64>,
    /// Who saw to that.
    pub revoked_by: Option<String>,
}

impl Store {
    /// Make a token; none if somebody of that name has one that counts.
    pub async fn add_token(&self, token: &NewToken, now_ms: i64) -> Result<Option<Token>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.add_token(token, now_ms).await,
            Self::Postgres(postgres) => postgres.add_token(token, now_ms).await,
        }
    }

    /// All tokens that were ever made, oldest first.
    pub async fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.tokens().await,
            Self::Postgres(postgres) => postgres.tokens().await,
        }
    }

    /// Let the token of that name not count any more. Gives whether there was one.
    pub async fn revoke_token(&self, name: &str, by: &str, now_ms: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.revoke_token(name, by, now_ms).await,
            Self::Postgres(postgres) => postgres.revoke_token(name, by, now_ms).await,
        }
    }

    /// Write down when a token was used, at most once a minute. Gives whether it was.
    pub async fn note_token_used(&self, id: i64, now_ms: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.note_token_used(id, now_ms).await,
            Self::Postgres(postgres) => postgres.note_token_used(id, now_ms).await,
        }
    }
}
