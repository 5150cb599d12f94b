//! Reads the log ahead of the session.

use belfry_store::{Lease, LogPage, Store, StoreError};
use tokio::sync::{mpsc, watch};

/// Maximum number of entries in a page. The size of a page in bytes is bounded, too.
const PAGE: u32 = 1000;
/// Maximum number of pages that are ready to be sent.
const AHEAD: usize = 2;

/// Reads from the position that the sink had when the lease was taken to the end of the log, and continues as the log
/// grows. Ends when the receiver is dropped, or at the first error.
pub(super) fn read(
    store: Store,
    lease: &Lease,
    log_end: watch::Receiver<i64>,
) -> mpsc::Receiver<Result<LogPage, StoreError>> {
    let (pages, receiver) = mpsc::channel(AHEAD);
    let (position, incarnation) = (lease.position, lease.incarnation.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = pages.closed() => {}
            () = read_pages(&store, position, &incarnation, log_end, &pages) => {}
        }
    });
    receiver
}

async fn read_pages(
    store: &Store,
    mut position: i64,
    incarnation: &str,
    mut log_end: watch::Receiver<i64>,
    pages: &mpsc::Sender<Result<LogPage, StoreError>>,
) {
    loop {
        // The read that follows sees everything that is committed by now.
        let end = *log_end.borrow_and_update();
        let mut all_is_read = end <= position;
        if !all_is_read {
            let page = match store.read_relay(position, PAGE).await {
                Ok(page) if page.incarnation != incarnation => Err(another_database()),
                page => page,
            };
            let failed = page.is_err();
            if let Ok(page) = &page {
                position = page.up_to;
                all_is_read = page.is_last;
            }
            if pages.send(page).await.is_err() || failed {
                return;
            }
        }
        if all_is_read && log_end.changed().await.is_err() {
            return;
        }
    }
}

/// Returns the error for a replaced database: a standby took over, or a backup was restored. Its log may end before the
/// position already read, and its next entries would be skipped.
fn another_database() -> StoreError {
    StoreError::Failed("the database was replaced; its position is read again, in a new epoch".into())
}
