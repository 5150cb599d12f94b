//! The live feed: each reader has a position of its own in the log.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use belfry_store::{LogEntry, NOTIFICATION_PAGE_BYTES, Store, StoreError};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use uuid::Uuid;

use crate::clock::now_ms;
use crate::releases::Registry;

/// Entries read at once, at most and at first.
const PAGE: u32 = 100;
const FIRST_PAGE: u32 = 10;
/// Bytes of messages that are read at once and wait for one reader, unless one message alone has more.
const PAGE_BYTES: usize = 64 << 10;
/// Feeds that read a page at the same time.
const READING: usize = 8;
/// Positions looked at for one page: a filter that leaves out nearly all must not keep the database busy.
const WINDOW: i64 = 10_000;
/// Pages ready to be sent to one reader, beside the one that is being sent.
const BUFFER: usize = 1;
/// How long a reader may take no page while there are some.
const PATIENCE: Duration = Duration::from_secs(10);
/// A feed that could not read the log tries again after this.
const RETRY: Duration = Duration::from_secs(1);

/// What a reader wants to see.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Notifications to this teacher only.
    pub recipient: Option<String>,
    /// Notifications of this projector only.
    pub projector: Option<String>,
}

/// Why a feed ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The reader took too long; it may resume where it was.
    SlowReader,
    /// The service stops; the reader may resume with another replica, or later.
    Shutdown,
    /// The log ends before where it was: a standby took over, or a backup was restored.
    Restored,
}

impl Closed {
    /// The word for it on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SlowReader => "slow-reader",
            Self::Shutdown => "shutdown",
            Self::Restored => "restored",
        }
    }
}

/// What a feed shows.
#[derive(Clone, Debug)]
pub enum Item {
    /// A notification at its position in the log.
    Notification {
        /// Its position.
        position: i64,
        /// The message.
        message: String,
    },
    /// A notification whose time has passed, so it is not shown.
    Expired {
        /// Its position.
        position: i64,
        /// Its id.
        event_id: Uuid,
        /// Until when it would have been shown.
        expires_at_ms: i64,
    },
    /// The end, and why.
    Closed(Closed),
}

/// Where feeds come from. Cheap to clone.
#[derive(Clone)]
pub struct Feeds {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) log_end: watch::Receiver<i64>,
    pub(crate) stopping: watch::Receiver<bool>,
    reading: Arc<Semaphore>,
}

impl Feeds {
    pub(crate) fn new(
        store: Store,
        registry: Registry,
        log_end: watch::Receiver<i64>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self { store, registry, log_end, stopping, reading: Arc::new(Semaphore::new(READING)) }
    }

    /// The highest position that is committed.
    pub fn end(&self) -> i64 {
        *self.log_end.borrow()
    }

    /// Show what stands in the log after a position, and all that comes.
    pub fn open(&self, after: i64, filter: Filter) -> impl Stream<Item = Item> + use<> {
        let (sender, receiver) = mpsc::channel(BUFFER);
        let closed = Arc::new(OnceLock::new());
        // The channel ends with the last of its senders: the reason must be there by then.
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
    /// Entries that the next page may have.
    page: u32,
    opened_ms: i64,
}

/// Why a reader's task ends: the service ends it, or the reader is gone and nobody is left to tell.
type End = Option<Closed>;

impl Reader {
    async fn run(mut self) -> End {
        let mut committed = self.feeds.log_end.clone();
        let mut stopping = self.feeds.stopping.clone();
        let mut known_end = 0;
        loop {
            let end = *committed.borrow_and_update();
            let mut failed = false;
            if end < known_end {
                return Some(Closed::Restored);
            }
            known_end = end;
            while self.position < end {
                if *stopping.borrow() {
                    return Some(Closed::Shutdown);
                }
                match self.send_page(end).await {
                    Ok(None) => {}
                    Ok(Some(closed)) => return closed,
                    Err(error) => {
                        tracing::warn!(%error, "a feed cannot read the log and tries again");
                        failed = true;
                        break;
                    }
                }
            }
            tokio::select! {
                // The heartbeat sees to it that nothing is missed.
                _ = committed.changed() => {}
                () = tokio::time::sleep(RETRY), if failed => {}
                _ = stopping.wait_for(|stopping| *stopping) => return Some(Closed::Shutdown),
                () = self.sender.closed() => return None,
            }
        }
    }

    /// Send one page. Where it had fewer entries than asked for, all of its window are seen, whatever the filter left out.
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
            // What was there before the reader was tells nothing of the feed's speed.
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

    /// The next entries, as many as may wait for one reader; and whether these are all up to there.
    async fn read_page(&mut self, up_to: i64) -> Result<(Vec<LogEntry>, bool), StoreError> {
        let recipient = self.filter.recipient.as_deref();
        // Nothing closes it.
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
        // As many as were good this time, or twice as many if more would have been.
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
