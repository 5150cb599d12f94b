use super::problem::Problem;
use crate::releases::ReleaseError;

/// Runs a change to completion in a task. If the client disconnects, the change must not remain half done, that is, applied
/// in the database but not to the loaded releases.
pub(super) async fn to_its_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, ReleaseError>> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::spawn(change).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Problem::overloaded("the change was aborted; check the releases and try again")),
    }
}
