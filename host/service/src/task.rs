//! Tasks that run as long as the service. A task that panics is counted and restarted: a bug in one part must not end that
//! part silently and for good.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;

/// The delay before a task that panicked is restarted. It also limits the rate of panics.
const PAUSE: Duration = Duration::from_secs(1);

tokio::task_local! {
    static NAME: &'static str;
}

/// Returns the name of the current task, if it has one.
pub(crate) fn current() -> Option<&'static str> {
    NAME.try_with(|name| *name).ok()
}

/// Runs a future under a name. Its panics are counted under that name.
pub(crate) async fn named<F: Future>(name: &'static str, future: F) -> F::Output {
    NAME.scope(name, future).await
}

/// Runs a task, and restarts it whenever it panics, until it returns.
pub(crate) async fn keep<F: Future<Output = ()>>(name: &'static str, mut begin: impl FnMut() -> F) {
    let kept = async {
        while AssertUnwindSafe(begin()).catch_unwind().await.is_err() {
            tracing::error!(task = name, "a task panicked; restarting it");
            tokio::time::sleep(PAUSE).await;
        }
    };
    named(name, kept).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_begins_again() {
        let begun = Arc::new(AtomicU32::new(0));
        let counted = begun.clone();
        let kept = keep("test", move || {
            let before = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                assert_eq!(current(), Some("test"));
                assert!(before > 0, "the first run panics");
            }
        });
        kept.await;
        assert_eq!(begun.load(Ordering::SeqCst), 2);
    }
}
