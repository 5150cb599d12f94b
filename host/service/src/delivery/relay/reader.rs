//! Reads the log ahead of the session.

use belfry_store::{RelayEntry, Store, StoreError};
use tokio::sync::{mpsc, watch};

/// Entries read at once.
const PAGE: u32 = 1000;
/// Pages that are ready to be sent.
const AHEAD: usize = 2;

/// A piece of the log.
pub(super) struct Page {
    pub(super) entries: Vec<RelayEntry>,
    /// Everything up to here was seen.
    pub(super) up_to: i64,
}

/// Read from a position, as far as the log goes, again and again. Ends when nobody takes the pages any more, or at the
/// first error.
pub(super) fn read(
    store: Store,
    position: i64,
    log_end: watch::Receiver<i64>,
) -> mpsc::Receiver<Result<Page, StoreError>> {
    let (pages, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        tokio::select! {
            () = pages.closed() => {}
            () = read_pages(&store, position, log_end, &pages) => {}
        }
    });
    receiver
}

async fn read_pages(
    store: &Store,
    mut position: i64,
    mut log_end: watch::Receiver<i64>,
    pages: &mpsc::Sender<Result<Page, StoreError>>,
) {
    loop {
        // What is committed now is seen by the read that follows.
        let end = *log_end.borrow_and_update();
        if end <= position {
            if log_end.changed().await.is_err() {
                return;
            }
            continue;
        }
        let page = store.read_relay(position, PAGE).await.map(|entries| {
            let last = entries.last().map_or(position, |entry| entry.position);
            // A page that is not full shows all there is up to the end that was known before; it may show more.
            let up_to = if (entries.len() as u32) < PAGE { last.max(end) } else { last };
            Page { entries, up_to }
        });
        let failed = page.is_err();
        if let Ok(page) = &page {
            position = page.up_to;
        }
        if pages.send(page).await.is_err() || failed {
            return;
        }
    }
}
