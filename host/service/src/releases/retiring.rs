//! Taking a projector out for good, and no longer than until someone wants it back.

use super::{Registry, ReleaseError};
use crate::clock::now_ms;

impl Registry {
    /// Take a projector out: its events are not projected, and no dead letters are written for it. Its releases, and what
    /// it has issued, stay. A rollback or an activation lets it serve again.
    pub(crate) async fn retire(&self, projector: &str, reason: &str, by: &str) -> Result<(), ReleaseError> {
        let _one_at_a_time = self.shared.change.lock().await;
        let rollout = self.rollout(projector).await?;
        if rollout.retired {
            let detail =
                format!("{projector} is retired already; to let it serve again: belfry release rollback {projector}");
            return Err(ReleaseError::Refused(detail));
        }
        if !self.shared.store.retire_projector(&rollout, reason, by, now_ms()).await? {
            let detail = format!("what serves {projector} was changed meanwhile; look and try again");
            return Err(ReleaseError::Refused(detail));
        }
        tracing::info!(projector, reason, by, "projector retired");
        self.shared.others.rollout_changed();
        self.take_over(Vec::new()).await
    }
}
