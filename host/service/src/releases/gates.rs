//! Checks before a release serves: its component is signed by a trusted key, and its effect was replayed.

use std::collections::HashMap;

use belfry_sandbox::Digest;
use belfry_store::{ComponentSignature, Release, Replayed, StoreError, now_ms};

use super::{Registry, ReleaseError};

/// Limit on the replays that are checked.
const REPLAYS: u32 = 100;

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

    /// Refuses a release that was not replayed recently against the serving one, if the configuration requires a replay.
    /// One that has served before is exempt: it is known, and may have to serve again in a hurry.
    pub(super) async fn ensure_replayed(&self, release: &Release) -> Result<(), ReleaseError> {
        let Some(within) = self.shared.replay_within else { return Ok(()) };
        let serving = self.serving().of(&release.projector).map(|active| active.release_id);
        let Some(serving) = serving.filter(|serving| *serving != release.id) else { return Ok(()) };
        if self.shared.store.has_served(release.id).await? {
            return Ok(());
        }
        let since_ms = now_ms() - i64::try_from(within.as_millis()).unwrap_or(i64::MAX);
        let replays = self.shared.store.replays(&release.label(), since_ms, REPLAYS).await?;
        let counts = |replay: &Replayed| {
            replay.events > 0 && !replay.one_subject && replay.baseline_id.is_none_or(|baseline| baseline == serving)
        };
        if replays.iter().any(counts) {
            return Ok(());
        }
        Err(ReleaseError::Refused(format!(
            "{} was not replayed against the serving release within {} hours (releases.require_replay_hours); see what it \
             would change: belfry replay {} --candidate {} --from 7d",
            release.label(),
            within.as_secs() / 3600,
            release.projector,
            release.id
        )))
    }
}
