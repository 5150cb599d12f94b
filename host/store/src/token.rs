//! Access tokens of the API.

use crate::{Store, StoreError};

/// A token to create.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// The name of its owner. No two tokens that are not revoked have the same name.
    pub name: String,
    /// Its role.
    pub role: String,
    /// SHA-256 of the token. The token itself is not stored.
    pub sha256: [u8; 32],
    /// Who creates it.
    pub created_by: String,
    /// When it expires, in milliseconds since the Unix epoch. It is invalid after this.
    pub expires_at_ms: Option<i64>,
}

/// A token that grants access to the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its number.
    pub id: i64,
    /// The name of its owner.
    pub name: String,
    /// Its role.
    pub role: String,
    /// SHA-256 of the token.
    pub sha256: [u8; 32],
    /// Who created it.
    pub created_by: String,
    /// When, in milliseconds since the Unix epoch.
    pub created_at_ms: i64,
    /// When it expires, in milliseconds since the Unix epoch. It is invalid after this.
    pub expires_at_ms: Option<i64>,
    /// When it was last used, to within a minute, in milliseconds since the Unix epoch.
    pub last_used_at_ms: Option<i64>,
    /// When it was revoked, in milliseconds since the Unix epoch.
    pub revoked_at_ms: Option<i64>,
    /// Who revoked it.
    pub revoked_by: Option<String>,
}

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
