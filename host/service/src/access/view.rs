use belfry_store::Token;
use serde::{Deserialize, Serialize};

use crate::clock::rfc3339;

/// A token as people see it: everything but what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Whose it is.
    pub name: String,
    /// What it allows.
    pub role: String,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: String,
    /// It does not count after this.
    pub expires_at: Option<String>,
    /// When it was used last, to a minute.
    pub last_used_at: Option<String>,
    /// Since when it does not count any more.
    pub revoked_at: Option<String>,
    /// Who saw to that.
    pub revoked_by: Option<String>,
}

impl TokenView {
    /// Of a token.
    pub fn of(token: Token) -> Self {
        Self {
            name: token.name,
            role: token.role,
            created_by: token.created_by,
            created_at: rfc3339(token.created_at_ms),
            expires_at: token.expires_at_ms.map(rfc3339),
            last_used_at: token.last_used_at_ms.map(rfc3339),
            revoked_at: token.revoked_at_ms.map(rfc3339),
            revoked_by: token.revoked_by,
        }
    }
}
