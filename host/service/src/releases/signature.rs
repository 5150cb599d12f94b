//! Signatures of components: detached ed25519 signatures, and the trusted keys.
//!
//! Keys and signatures are one line of text each: `ed25519:` and hexadecimal digits, 64 for a public key and 128 for a
//! signature; a secret key is `ed25519-secret:` and 64 digits. The signed text is `belfry.component.v1:` and the SHA-256 of
//! the component's bytes in hexadecimal, so a signature of anything else is not valid for a component, and other tools can
//! create and check signatures.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use belfry_sandbox::Digest;
use belfry_store::ComponentSignature;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use crate::config;

const PUBLIC: &str = "ed25519:";
const SECRET: &str = "ed25519-secret:";

/// A text that is not a key or not a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be {0}, as `belfry plugin {1}` writes it")]
pub struct InvalidText(&'static str, &'static str);

/// The key that components are signed with. It has no `Debug` or `Display`, so it is never shown by accident.
pub struct SecretKey {
    secret: [u8; 32],
    pair: Ed25519KeyPair,
}

impl SecretKey {
    /// Generates a key from the system's randomness.
    pub fn generate() -> std::io::Result<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        Ok(Self::of(secret))
    }

    fn of(secret: [u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&secret).expect("any 32 bytes are a secret key");
        Self { secret, pair }
    }

    /// Returns the public key, which others check signatures with.
    pub fn public(&self) -> PublicKey {
        let bytes = self.pair.public_key().as_ref();
        PublicKey(bytes.try_into().expect("a public key has 32 bytes"))
    }

    /// Signs a component.
    pub fn sign(&self, digest: &Digest) -> Signature {
        let signature = self.pair.sign(signed(digest).as_bytes());
        Signature(signature.as_ref().try_into().expect("a signature has 64 bytes"))
    }

    /// Returns the text that is kept in a file.
    pub fn to_text(&self) -> String {
        format!("{SECRET}{}", hex::encode(self.secret))
    }
}

impl FromStr for SecretKey {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let wrong = InvalidText("ed25519-secret: and 64 hexadecimal digits", "keygen");
        digits(text, SECRET).map(Self::of).ok_or(wrong)
    }
}

/// The key that signatures are checked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    fn vouches(&self, digest: &Digest, signature: &Signature) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(signed(digest).as_bytes(), &signature.0).is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        digits(text, PUBLIC).map(Self).ok_or(InvalidText("ed25519: and 64 hexadecimal digits", "keygen"))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{PUBLIC}{}", hex::encode(self.0))
    }
}

/// A detached signature of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl FromStr for Signature {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        digits(text, PUBLIC).map(Self).ok_or(InvalidText("ed25519: and 128 hexadecimal digits", "sign"))
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{PUBLIC}{}", hex::encode(self.0))
    }
}

/// The trusted keys, by their owners' names, and whether a component needs a signature by one of them.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys {
    required: bool,
    keys: Vec<(String, PublicKey)>,
}

impl TrustedKeys {
    /// Parses the configured keys.
    pub(crate) fn configured(config: &config::Releases) -> Result<Self, String> {
        Self::new(config.require_signature, &config.trusted_keys)
    }

    fn new(required: bool, keys: &BTreeMap<String, String>) -> Result<Self, String> {
        let keys = keys.iter().map(|(name, text)| match text.parse() {
            Ok(key) => Ok((name.clone(), key)),
            Err(invalid) => Err(format!("releases.trusted_keys.{name}: {invalid}")),
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        if required && keys.is_empty() {
            return Err("releases.require_signature: no key is trusted, so nothing could be uploaded; \
                        add one to releases.trusted_keys"
                .into());
        }
        Ok(Self { required, keys })
    }

    /// Returns whether a component must be signed.
    pub(super) fn required(&self) -> bool {
        self.required
    }

    /// Checks the signature that comes with a component. Returns `None` if there is none and none is required.
    pub(super) fn check(
        &self,
        digest: &Digest,
        signature: Option<&Signature>,
    ) -> Result<Option<ComponentSignature>, String> {
        let Some(signature) = signature else {
            return if self.required {
                Err("a signature is required; sign the component with `belfry plugin sign` and push it with --signature"
                    .into())
            } else {
                Ok(None)
            };
        };
        let Some((name, key)) = self.keys.iter().find(|(_, key)| key.vouches(digest, signature)) else {
            return Err(format!(
                "the signature matches none of the trusted keys ({}), or is for another component (this one has \
                 sha256 {digest}); sign this exact file with the secret key of one of them",
                self.names()
            ));
        };
        Ok(Some(ComponentSignature { public_key: key.0, signature: signature.0, signer: name.clone() }))
    }

    /// Returns the owner of a currently trusted key that made one of the component's signatures.
    pub(super) fn signer(&self, digest: &Digest, signatures: &[ComponentSignature]) -> Option<String> {
        signatures.iter().find_map(|kept| {
            self.check(digest, Some(&Signature(kept.signature))).ok().flatten().map(|checked| checked.signer)
        })
    }

    fn names(&self) -> String {
        match &self.keys[..] {
            [] => "there are none: releases.trusted_keys is empty".into(),
            keys => keys.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", "),
        }
    }
}

fn signed(digest: &Digest) -> String {
    format!("belfry.component.v1:{digest}")
}

fn digits<const LENGTH: usize>(text: &str, prefix: &str) -> Option<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    hex::decode_to_slice(text.trim().strip_prefix(prefix)?, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use belfry_sandbox::digest;

    use super::*;

    fn trusting(keys: &[(&str, &SecretKey)]) -> TrustedKeys {
        let keys = keys.iter().map(|(name, key)| ((*name).to_owned(), key.public().to_string())).collect();
        TrustedKeys::new(true, &keys).expect("keys")
    }

    #[test]
    fn a_component_is_vouched_for_by_a_trusted_key_alone() {
        let (ours, theirs) = (SecretKey::generate().expect("a key"), SecretKey::generate().expect("a key"));
        let trusted = trusting(&[("ours", &ours)]);
        let (rule, other) = (digest(b"a rule"), digest(b"another"));
        let checked = trusted.check(&rule, Some(&ours.sign(&rule))).expect("a valid signature").expect("a signature");
        assert_eq!(checked.signer, "ours");
        assert!(trusted.check(&rule, Some(&theirs.sign(&rule))).is_err(), "a key that is not trusted");
        assert!(trusted.check(&rule, Some(&ours.sign(&other))).is_err(), "for another component");
        assert!(trusted.check(&rule, None).is_err(), "no signature, though one is required");
        assert_eq!(trusted.signer(&rule, std::slice::from_ref(&checked)), Some("ours".into()));
        assert_eq!(trusting(&[("new", &theirs)]).signer(&rule, &[checked]), None, "the key is no longer trusted");
    }

    #[test]
    fn keys_and_signatures_are_text() {
        let key = SecretKey::generate().expect("a key");
        let again: SecretKey = format!("{}\n", key.to_text()).parse().expect("a secret key");
        assert_eq!(again.public(), key.public());
        assert_eq!(key.public().to_string().parse(), Ok(key.public()));
        let signature = key.sign(&digest(b"a rule"));
        assert_eq!(signature.to_string().parse(), Ok(signature));
        assert!(key.to_text().parse::<PublicKey>().is_err(), "a secret key is not a public key");
        assert!("ed25519:00".parse::<Signature>().is_err());
    }

    /// Made with another implementation: `openssl pkeyutl -sign -rawin` with a secret key of 32 bytes 07.
    #[test]
    fn other_tools_make_the_same_signatures() {
        let key: SecretKey = format!("{SECRET}{}", "07".repeat(32)).parse().expect("a secret key");
        assert_eq!(
            key.public().to_string(),
            "ed25519:ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c"
        );
        assert_eq!(
            key.sign(&digest(b"a rule\n")).to_string(),
            "ed25519:d88b9697bf035ddbaa75841297b502188902635cc6826233023352516d914a1c\
             dbf2921976a1ca8652d1561b2b6a9fbb59da2369faf01dc290df56cc0ff01204"
        );
    }
}
