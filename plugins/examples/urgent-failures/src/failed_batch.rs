use belfry_sdk::prelude::*;

/// A batch with failures: the facts that a message may mention.
pub(crate) struct FailedBatch {
    batch_id: String,
    total: i64,
    completed: i64,
}

impl FailedBatch {
    /// Returns the batch whose results are ready, if any of its essays failed. The counts are checked too, since
    /// producers may add values of `overall_status`.
    pub(crate) fn find(event: &Event) -> Option<Self> {
        let Event::BatchResultsReadyV1(batch) = event else { return None };
        let failed = batch.overall_status == "completed_with_failures" || batch.completed_essays < batch.total_essays;
        failed.then(|| Self {
            batch_id: batch.batch_id.clone(),
            total: batch.total_essays,
            completed: batch.completed_essays,
        })
    }

    /// Returns the value of a placeholder, or `None` if there is no placeholder of this name.
    pub(crate) fn placeholder(&self, name: &str) -> Option<String> {
        match name {
            "batch_id" => Some(self.batch_id.clone()),
            "failed" => Some(self.failed().to_string()),
            "total" => Some(self.total.to_string()),
            "completed" => Some(self.completed.to_string()),
            _ => None,
        }
    }

    /// Returns the number of failed essays. Producers guarantee no range: the difference may exceed 64 bits, and more
    /// essays may have completed than there were.
    fn failed(&self) -> i64 {
        self.total.saturating_sub(self.completed).max(0)
    }
}
