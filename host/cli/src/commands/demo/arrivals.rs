//! The notifications that arrive on the live feed, with their times of arrival.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;

use super::failed;
use crate::client::wire::Message;
use crate::client::{Client, FeedItem, FeedQuery, Start};

/// The time limit for the arrival of a notification.
const PATIENCE: Duration = Duration::from_secs(5);
const BUFFER: usize = 256;

/// A notification that arrived.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) message: Message,
    /// The envelope, verbatim.
    pub(super) text: String,
    pub(super) at: Instant,
}

/// All notifications that have arrived.
pub(super) struct Arrivals {
    receiver: mpsc::Receiver<Arrival>,
    seen: HashMap<Uuid, Arrival>,
    task: JoinHandle<()>,
}

impl Arrivals {
    /// Subscribes to the feed.
    pub(super) async fn follow(client: &Client) -> anyhow::Result<Self> {
        let mut feed = client.feed(FeedQuery { from: Start::Beginning, ..FeedQuery::default() }).await?;
        let (sender, receiver) = mpsc::channel(BUFFER);
        let task = tokio::spawn(async move {
            while let Ok(item) = feed.next().await {
                let at = Instant::now();
                let FeedItem::Notification(notification) = item else { continue };
                let Ok(message) = notification.message() else { return };
                if sender.send(Arrival { message, text: notification.text, at }).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self { receiver, seen: HashMap::new(), task })
    }

    /// Waits until a notification has arrived.
    pub(super) async fn get(&mut self, notification_id: Uuid) -> anyhow::Result<Arrival> {
        while !self.seen.contains_key(&notification_id) {
            let next = timeout(PATIENCE, self.receiver.recv()).await.ok().flatten();
            let next =
                next.ok_or_else(|| failed(format!("notification {notification_id} did not arrive on the feed")))?;
            self.seen.insert(next.message.event_id, next);
        }
        Ok(self.seen[&notification_id].clone())
    }

    /// Returns the number of notifications that have arrived, including those that were not waited for.
    pub(super) async fn count(&mut self, expected: usize) -> usize {
        // A surplus notification would arrive at once: it is in the log already.
        while let Ok(Some(next)) = timeout(Duration::from_millis(200), self.receiver.recv()).await {
            self.seen.insert(next.message.event_id, next);
            if self.seen.len() > expected {
                break;
            }
        }
        self.seen.len()
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.task.abort();
    }
}
