//! Reads the log ahead of the session.

use belfry_store::{Lease, LogPage, Store, StoreError};
use tokio::sync::{mpsc, watch};

/// Entries read at once; by their bytes, pages are bounded too.
const PAGE: u32 = 1000;
/// Pages that are ready to be sent.
const AHEAD: usize = 2;

/// Read on from where the sink was when the lease was taken, as far as the log goes, again and again. Ends when nobody
/// takes the pages any more, or at the first error.
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
        // What is committed now is seen by the read that follows.
        let told = *log_end.borrow_and_update();
        let mut all_is_read = told <= position;
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

/// A standby took over, or a backup was restored: the log may end before what was read of the other, and what comes there
/// next would be passed over.
fn another_database() -> StoreError {
    StoreError::Failed("the database is another; its position is read anew, in a new epoch".into())
}
