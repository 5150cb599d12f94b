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
