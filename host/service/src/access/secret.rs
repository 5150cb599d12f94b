use std::fmt;

use sha2::{Digest as _, Sha256};

/// The prefix of every token, by which leaked tokens can be recognized.
pub const TOKEN_PREFIX: &str = "belfry_";

/// A token itself. It is shown once, when it is created. Its `Debug` output is redacted.
pub struct Secret(String);

impl Secret {
    /// Generates a token with 256 random bits from the system.
    ///
    /// # Errors
    ///
    /// Returns an error if the system's random number generator fails.
    pub fn generate() -> std::io::Result<Self> {
        let mut random = [0; 32];
        getrandom::fill(&mut random)?;
        Ok(Self(format!("{TOKEN_PREFIX}{}", hex::encode(random))))
    }

    /// Returns the SHA-256 digest of the token, which is what the database stores.
    pub fn sha256(&self) -> [u8; 32] {
        hash(&self.0)
    }

    /// Returns the token as it is sent with requests.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{TOKEN_PREFIX}…")
    }
}

/// Returns the stored digest of a token. Tokens are long and random, so a single hash is enough.
pub(super) fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_random_and_recognised() {
        let (one, other) = (Secret::generate().expect("a token"), Secret::generate().expect("a token"));
        assert_ne!(one.reveal(), other.reveal());
        assert_eq!(one.reveal().strip_prefix(TOKEN_PREFIX).map(str::len), Some(64));
        assert_eq!(one.sha256(), hash(one.reveal()));
        assert!(!format!("{one:?}").contains(&one.reveal()[10..]), "the Debug output is redacted");
    }
}
