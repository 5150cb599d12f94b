//! Retires projectors until an operator activates them again.

use belfry_store::now_ms;

use super::{Registry, ReleaseError};

impl Registry {
    /// Retires a projector: its events are not projected, and no dead letters are written for it. Its releases, and the
    /// notifications that it has issued, stay. A rollback or an activation puts it back into service.
    pub(crate) async fn retire(&self, projector: &str, reason: &str, by: &str) -> Result<(), ReleaseError> {
        let _one_at_a_time = self.shared.change.lock().await;
        let rollout = self.rollout(projector).await?;
        if rollout.retired {
            let detail =
                format!("{projector} is already retired; to activate it again: belfry release rollback {projector}");
            return Err(ReleaseError::Refused(detail));
        }
        if !self.shared.store.retire_projector(&rollout, reason, by, now_ms()).await? {
            let detail = format!("the rollout of {projector} was changed in the meantime; check it and try again");
            return Err(ReleaseError::Refused(detail));
        }
        tracing::info!(projector, reason, by, "projector retired");
        self.shared.others.rollout_changed();
        self.take_over(Vec::new()).await
    }
}
