//! Checks that the effect of a release was replayed before it serves.

use belfry_store::{Release, Replayed};

use super::{Registry, ReleaseError};
use crate::clock::now_ms;

/// Limit on the replays that are checked.
const REPLAYS: u32 = 100;

impl Registry {
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
