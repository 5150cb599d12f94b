//! The live feed: each reader has its own position in the log.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use belfry_store::{LogEntry, NOTIFICATION_PAGE_BYTES, Store, StoreError, now_ms};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::releases::Registry;

/// Maximum number of entries in a page, and in the first page.
const PAGE: u32 = 100;
const FIRST_PAGE: u32 = 10;
/// Maximum size of the messages in a page that waits for one reader, in bytes. A larger message passes alone.
const PAGE_BYTES: usize = 64 << 10;
/// Maximum number of feeds that read a page at the same time.
const READING: usize = 8;
/// Positions examined for one page: a filter that excludes nearly everything must not keep the database busy.
const WINDOW: i64 = 10_000;
/// Pages ready to be sent to one reader, in addition to the one that is being sent.
const BUFFER: usize = 1;
/// How long a page may wait for its reader.
const PATIENCE: Duration = Duration::from_secs(10);
/// The delay before a feed that could not read the log retries.
const RETRY: Duration = Duration::from_secs(1);

/// The notifications that a reader requests.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only notifications to this teacher.
    pub recipient: Option<String>,
    /// Only notifications of this projector.
    pub projector: Option<String>,
}

/// Why a feed ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The reader took too long; it may resume at its position.
    SlowReader,
    /// The service stops; the reader may resume with another replica, or later.
    Shutdown,
    /// The log ends before a position that it had reached: a standby took over, or a backup was restored.
    Restored,
}

impl Closed {
    /// Returns its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SlowReader => "slow-reader",
            Self::Shutdown => "shutdown",
            Self::Restored => "restored",
        }
    }
}

/// An item of a feed.
#[derive(Clone, Debug)]
pub enum Item {
    /// A notification at its position in the log.
    Notification {
        /// Its position.
        position: i64,
        /// The message.
        message: String,
    },
    /// A notification that has expired, so it is not shown.
    Expired {
        /// Its position.
        position: i64,
        /// Its id.
        event_id: Uuid,
        /// The time at which it expired, in milliseconds since the epoch.
        expires_at_ms: i64,
    },
    /// The end of the feed, and its reason.
    Closed(Closed),
}

/// Opens feeds. Cheap to clone.
#[derive(Clone)]
pub struct Feeds {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) log_end: watch::Receiver<i64>,
    pub(crate) stopping: CancellationToken,
    reading: Arc<Semaphore>,
}

impl Feeds {
    pub(crate) fn new(
        store: Store,
        registry: Registry,
        log_end: watch::Receiver<i64>,
        stopping: CancellationToken,
    ) -> Self {
        Self { store, registry, log_end, stopping, reading: Arc::new(Semaphore::new(READING)) }
    }

    /// Returns the highest committed position.
    pub fn end(&self) -> i64 {
        *self.log_end.borrow()
    }

    /// Opens a feed of the notifications after a position, including those that are yet to be recorded.
    pub fn open(&self, after: i64, filter: Filter) -> impl Stream<Item = Item> + use<> {
        let (sender, receiver) = mpsc::channel(BUFFER);
        let closed = Arc::new(OnceLock::new());
        // The channel ends when the last of its senders is dropped: the reason must be set by then.
        let until_told = sender.clone();
        let reader =
            Reader { feeds: self.clone(), filter, sender, position: after, page: FIRST_PAGE, opened_ms: now_ms() };
        let reason = closed.clone();
        tokio::spawn(async move {
            if let Some(why) = reader.run().await {
                let _ = reason.set(why);
            }
            drop(until_told);
        });
        let last = futures_util::stream::once(async move { closed.get().copied().map(Item::Closed) });
        let items = futures_util::StreamExt::flat_map(ReceiverStream::new(receiver), futures_util::stream::iter);
        items.chain(last.filter_map(|item| item))
    }
}

/// One reader's task.
struct Reader {
    feeds: Feeds,
    filter: Filter,
    sender: mpsc::Sender<Vec<Item>>,
    position: i64,
    /// Maximum number of entries in the next page.
    page: u32,
    opened_ms: i64,
}

/// Why a reader's task ends. `None` if the reader is gone, so no reason is sent.
type End = Option<Closed>;

impl Reader {
    async fn run(mut self) -> End {
        let mut committed = self.feeds.log_end.clone();
        let stopping = self.feeds.stopping.clone();
        let mut known_end = 0;
        loop {
            let end = *committed.borrow_and_update();
            let mut failed = false;
            if end < known_end {
                return Some(Closed::Restored);
            }
            known_end = end;
            while self.position < end {
                if stopping.is_cancelled() {
                    return Some(Closed::Shutdown);
                }
                match self.send_page(end).await {
                    Ok(None) => {}
                    Ok(Some(closed)) => return closed,
                    Err(error) => {
                        tracing::warn!(%error, "a feed cannot read the log; retrying");
                        failed = true;
                        break;
                    }
                }
            }
            tokio::select! {
                // The heartbeat ensures that nothing is missed.
                _ = committed.changed() => {}
                () = tokio::time::sleep(RETRY), if failed => {}
                () = stopping.cancelled() => return Some(Closed::Shutdown),
                () = self.sender.closed() => return None,
            }
        }
    }

    /// Sends one page. If it had fewer entries than requested, its whole window was read, including what the filter
    /// excludes.
    async fn send_page(&mut self, end: i64) -> Result<Option<End>, StoreError> {
        let up_to = end.min(self.position + WINDOW);
        let (page, complete) = self.read_page(up_to).await?;
        if self.filter.projector.is_some() {
            self.feeds.registry.learn(page.iter().filter_map(|entry| entry.release_id)).await?;
        }
        let mut items = Vec::with_capacity(page.len());
        for entry in page {
            self.position = entry.position;
            if !self.shows(&entry) {
                continue;
            }
            // Entries that are older than the feed do not show its speed.
            if entry.created_at_ms >= self.opened_ms {
                metrics::histogram!("belfry_accept_to_ack_seconds", "sink" => "feed")
                    .record((now_ms() - entry.created_at_ms).max(0) as f64 / 1000.0);
            }
            let position = entry.position;
            items.push(match entry.expires_at_ms.filter(|expires_at_ms| *expires_at_ms <= now_ms()) {
                Some(expires_at_ms) => Item::Expired { position, event_id: entry.event_id, expires_at_ms },
                None => Item::Notification { position, message: String::from_utf8_lossy(&entry.payload).into_owned() },
            });
        }
        if !items.is_empty() {
            match timeout(PATIENCE, self.sender.send(items)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(Some(None)),
                Err(_) => return Ok(Some(Some(Closed::SlowReader))),
            }
        }
        if complete {
            self.position = up_to;
        }
        Ok(None)
    }

    /// Reads the next entries, limited to what may wait for one reader. Also returns whether these are all up to `up_to`.
    async fn read_page(&mut self, up_to: i64) -> Result<(Vec<LogEntry>, bool), StoreError> {
        let recipient = self.filter.recipient.as_deref();
        // The semaphore is never closed.
        let _turn = self.feeds.reading.acquire().await;
        let mut page = self.feeds.store.read_notifications(self.position, up_to, self.page, recipient).await?;
        let read = page.len();
        let read_bytes: usize = page.iter().map(|entry| entry.payload.len()).sum();
        let mut bytes = 0;
        let fitting = page.iter().take_while(|entry| {
            bytes += entry.payload.len();
            bytes <= PAGE_BYTES
        });
        let fitting = fitting.count().max(1);
        let complete = read < self.page as usize && read_bytes < NOTIFICATION_PAGE_BYTES && fitting >= read;
        page.truncate(fitting);
        // The number that fit this time, or twice the number that was read if all of them fit.
        let next = if fitting < read { fitting } else { read.max(FIRST_PAGE as usize) * 2 };
        self.page = u32::try_from(next).unwrap_or(PAGE).min(PAGE);
        Ok((page, complete))
    }

    fn shows(&self, entry: &LogEntry) -> bool {
        let Some(wanted) = &self.filter.projector else { return true };
        let named = entry.release_id.and_then(|release_id| self.feeds.registry.name(release_id));
        named.is_some_and(|named| named.projector == *wanted)
    }
}
