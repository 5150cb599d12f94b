//! Checks that a release's component is signed by a trusted key.

use std::collections::HashMap;

use belfry_sandbox::Digest;
use belfry_store::{ComponentSignature, Release, StoreError};

use super::{Registry, ReleaseError};

impl Registry {
    /// Refuses a release whose component is not signed by a currently trusted key. The upload requires a signature too, but
    /// keys may have been added or removed since.
    pub(super) async fn ensure_vouched_for(&self, release: &Release) -> Result<(), ReleaseError> {
        let component = Digest(release.digest);
        if !self.shared.trusted.required() || component == self.shared.default {
            return Ok(());
        }
        if self.signers().await?.contains_key(&release.digest) {
            return Ok(());
        }
        Err(ReleaseError::NotVouchedFor(format!(
            "no currently trusted key has signed the component of {}; sign it with `belfry plugin sign` and push it again \
             with --signature",
            release.label()
        )))
    }

    /// Returns the owners of the trusted keys that components were signed with, by the components' digests.
    pub(crate) async fn signers(&self) -> Result<HashMap<[u8; 32], String>, StoreError> {
        let mut kept: HashMap<[u8; 32], Vec<ComponentSignature>> = HashMap::new();
        for (component, signature) in self.shared.store.component_signatures().await? {
            kept.entry(component).or_default().push(signature);
        }
        let trusted = &self.shared.trusted;
        let signer = |(component, signatures): ([u8; 32], Vec<_>)| {
            Some((component, trusted.signer(&Digest(component), &signatures)?))
        };
        Ok(kept.into_iter().filter_map(signer).collect())
    }
}
