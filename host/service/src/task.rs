//! Tasks that the service needs for as long as it runs. One that panics is counted and begun again: a fault of ours in one
//! part must not end that part for good, in silence.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinHandle;

/// How soon a task that panicked is begun again; so often at most it can panic.
const PAUSE: Duration = Duration::from_secs(1);

tokio::task_local! {
    static NAME: &'static str;
}

/// The name of the task that runs here, if it has one.
pub(crate) fn current() -> Option<&'static str> {
    NAME.try_with(|name| *name).ok()
}

/// Let a future run under a name, which is counted with its panics.
pub(crate) async fn named<F: Future>(name: &'static str, future: F) -> F::Output {
    NAME.scope(name, future).await
}

/// Start a task, and begin it again whenever it panics, until it ends by itself.
pub(crate) fn keep<F>(name: &'static str, mut begin: impl FnMut() -> F + Send + 'static) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(named(name, async move {
        while AssertUnwindSafe(begin()).catch_unwind().await.is_err() {
            tracing::error!(task = name, "a task panicked; it begins again");
            tokio::time::sleep(PAUSE).await;
        }
    }))
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
                assert!(before > 0, "the first time it panics");
            }
        });
        kept.await.expect("it ends by itself");
        assert_eq!(begun.load(Ordering::SeqCst), 2);
    }
}
