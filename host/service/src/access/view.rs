use belfry_store::Token;
use serde::{Deserialize, Serialize};

use crate::clock::rfc3339;

/// A token in lists and responses: its properties without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// The name of its owner.
    pub name: String,
    /// The role that it grants.
    pub role: String,
    /// The name of its creator.
    pub created_by: String,
    /// When it was created.
    pub created_at: String,
    /// When it expires; `None` if it does not.
    pub expires_at: Option<String>,
    /// When it was last used, accurate to a minute; `None` if never.
    pub last_used_at: Option<String>,
    /// When it was revoked; `None` if it was not.
    pub revoked_at: Option<String>,
    /// The name of the caller that revoked it.
    pub revoked_by: Option<String>,
}

impl TokenView {
    /// Creates the view of a token.
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
