use std::fmt;

use sha2::{Digest as _, Sha256};

/// How a token begins, so that it is recognised where it should not be.
pub const TOKEN_PREFIX: &str = "belfry_";

/// A token itself. It is shown once, to whoever it is made for, and never by accident.
pub struct Secret(String);

impl Secret {
    /// A new one: 256 bits of the system's randomness.
    pub fn generate() -> std::io::Result<Self> {
        let mut random = [0; 32];
        getrandom::fill(&mut random)?;
        Ok(Self(format!("{TOKEN_PREFIX}{}", hex::encode(random))))
    }

    /// What is kept of it.
    pub fn sha256(&self) -> [u8; 32] {
        hash(&self.0)
    }

    /// The text that is sent with requests.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{TOKEN_PREFIX}…")
    }
}

/// What is kept of a token. It is long and random, so hashing it once is enough.
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
        assert!(!format!("{one:?}").contains(&one.reveal()[10..]), "it is not shown by accident");
    }
}
