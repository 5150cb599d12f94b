//! Making and revoking tokens: through the API, or beside the service, on its database.

use std::time::Duration;

use belfry_store::{NewToken, Store, StoreError, Token};

use super::{Role, Secret};
use crate::clock::now_ms;

const MAX_NAME_BYTES: usize = 63;
/// The names under which Belfry itself, and requests without a token, are noted.
const RESERVED: [&str; 2] = ["local", "belfry"];
/// The longest time until a token expires.
const MAX_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewAccess {
    /// Whose it is.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// How long it counts; until it is revoked if none.
    pub life: Option<Duration>,
    /// Who makes it.
    pub created_by: String,
}

/// A token that was made. This is the only time that its secret is known.
#[derive(Debug)]
pub struct Issued {
    /// What is kept of it.
    pub token: Token,
    /// The token itself.
    pub secret: Secret,
}

/// Why a token is not made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The name cannot be one.
    #[error("name: must be 1 to 63 of the letters a-z and A-Z, digits and . _ @ -, and neither local nor belfry")]
    Name,
    /// The time is none.
    #[error("the time until it expires must be one second at least, and ten years at most")]
    Life,
    /// Somebody has a token of this name.
    #[error("{0} has a token that counts; revoke it first, or choose another name")]
    Taken(String),
    /// Nobody has.
    #[error("there is no token of {0} that counts; see `belfry token list`")]
    NotFound(String),
    /// The system gives no randomness.
    #[error("the system gives no randomness: {0}")]
    Randomness(std::io::Error),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether a token may have this name: one that cannot be taken for another's in releases and in the audit log.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "._@-".contains(letter);
    let reserved = RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved));
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.chars().all(allowed) && !reserved
}

/// Make a token.
pub async fn issue(store: &Store, new: NewAccess) -> Result<Issued, IssueError> {
    let NewAccess { name, role, life, created_by } = new;
    if !is_name(&name) {
        return Err(IssueError::Name);
    }
    if life.is_some_and(|life| !(Duration::from_secs(1)..=MAX_LIFE).contains(&life)) {
        return Err(IssueError::Life);
    }
    let secret = Secret::generate().map_err(IssueError::Randomness)?;
    let now_ms = now_ms();
    let new = NewToken {
        name: name.clone(),
        role: role.as_str().to_owned(),
        sha256: secret.sha256(),
        created_by,
        expires_at_ms: life.map(|life| now_ms + i64::try_from(life.as_millis()).unwrap_or(i64::MAX - now_ms)),
    };
    let token = store.add_token(&new, now_ms).await?.ok_or(IssueError::Taken(name))?;
    tracing::info!(token = token.name, role = token.role, by = token.created_by, "token made");
    Ok(Issued { token, secret })
}

/// Every token that was ever made, oldest first.
pub async fn list(store: &Store) -> Result<Vec<Token>, StoreError> {
    store.tokens().await
}

/// Let a token not count any more.
pub async fn revoke(store: &Store, name: &str, by: &str) -> Result<(), IssueError> {
    if !store.revoke_token(name, by, now_ms()).await? {
        return Err(IssueError::NotFound(name.to_owned()));
    }
    tracing::info!(token = name, by, "token revoked");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_has_the_name_of_another() {
        for name in ["ci", "anna@school", "build-server.2", "locals"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "local", "belfry", "Local", "BELFRY", "direct:root", "a b", &"a".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
