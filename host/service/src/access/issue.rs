//! Creates and revokes tokens, for the API and for commands that access the service's database directly.

use std::time::Duration;

use belfry_store::{NewToken, Store, StoreError, Token, now_ms};

use super::{Role, Secret};

const MAX_NAME_BYTES: usize = 63;
/// Names that the audit log uses for requests without a token and for Belfry itself.
const RESERVED: [&str; 2] = ["local", "belfry"];
/// Maximum lifetime of a token.
const MAX_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The properties of a new token.
#[derive(Clone, Debug)]
pub struct NewAccess {
    /// The name of its owner.
    pub name: String,
    /// The role that it grants.
    pub role: Role,
    /// The lifetime; without one, it is valid until it is revoked.
    pub life: Option<Duration>,
    /// The name of its creator.
    pub created_by: String,
}

/// A new token. Its secret is available only here.
#[derive(Debug)]
pub struct Issued {
    /// The stored record.
    pub token: Token,
    /// The token itself.
    pub secret: Secret,
}

/// An error of creating or revoking a token.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The name is invalid.
    #[error("name: must be 1 to 63 of the letters a-z and A-Z, digits and . _ @ -, and neither local nor belfry")]
    Name,
    /// The lifetime is out of range.
    #[error("the lifetime must be between one second and ten years")]
    Life,
    /// A valid token has this name.
    #[error("{0} already has a valid token; revoke it first, or choose another name")]
    Taken(String),
    /// No valid token has this name.
    #[error("{0} has no valid token; see `belfry token list`")]
    NotFound(String),
    /// The system's random number generator failed.
    #[error("cannot get random bytes from the system: {0}")]
    Randomness(std::io::Error),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Returns whether a token may have this name. Reserved names would be ambiguous in releases and in the audit log.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "._@-".contains(letter);
    let reserved = RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved));
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.chars().all(allowed) && !reserved
}

/// Creates a token.
///
/// # Errors
///
/// Returns an error if the name or the lifetime is invalid, the name is taken, or the system or the database fails.
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
    tracing::info!(token = token.name, role = token.role, by = token.created_by, "token created");
    Ok(Issued { token, secret })
}

/// Returns all tokens ever created, oldest first, including expired and revoked ones.
///
/// # Errors
///
/// Returns an error if the database cannot be read.
pub async fn list(store: &Store) -> Result<Vec<Token>, StoreError> {
    store.tokens().await
}

/// Revokes a token.
///
/// # Errors
///
/// Returns an error if no valid token has this name, or the database fails.
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
