//! Access tokens of the API.

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
