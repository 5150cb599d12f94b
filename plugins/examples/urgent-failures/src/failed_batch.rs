use belfry_sdk::prelude::*;

/// What the wording of a failure may speak of.
pub(crate) struct FailedBatch {
    batch_id: String,
    total: i64,
    completed: i64,
}

impl FailedBatch {
    /// The batch whose results are ready, if any of its essays failed. The counts are looked at too: further values of
    /// `overall_status` may come.
    pub(crate) fn find(event: &Event) -> Option<Self> {
        let Event::BatchResultsReadyV1(batch) = event else { return None };
        let failed = batch.overall_status == "completed_with_failures" || batch.completed_essays < batch.total_essays;
        failed.then(|| Self {
            batch_id: batch.batch_id.clone(),
            total: batch.total_essays,
            completed: batch.completed_essays,
        })
    }

    /// What stands for a placeholder of the wording; none if there is no such placeholder.
    pub(crate) fn placeholder(&self, name: &str) -> Option<String> {
        match name {
            "batch_id" => Some(self.batch_id.clone()),
            "failed" => Some(self.failed().to_string()),
            "total" => Some(self.total.to_string()),
            "completed" => Some(self.completed.to_string()),
            _ => None,
        }
    }

    /// Producers promise no range: the difference may leave 64 bits, and more may have completed than there were.
    fn failed(&self) -> i64 {
        self.total.saturating_sub(self.completed).max(0)
    }
}
