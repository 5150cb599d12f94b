//! Reads the notifications of both sides.

use belfry_store::Store;
use rdkafka::Message;
use rdkafka::consumer::Consumer;
use uuid::Uuid;

use super::content::{Content, Names};
use super::{CompareError, MAX_COMPARED};
use crate::kafka::{Client, SCAN_PATIENCE, Span, offsets_at, scan};

/// Notifications read from the log per query.
const PAGE: u32 = 2000;
/// Tolerated difference between the clocks of the database and the topic's producers when a time determines where to begin.
const CLOCKS_MS: i64 = 60_000;

/// A period of time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) from_ms: Option<i64>,
    pub(super) to_ms: i64,
}

/// A notification and its place.
pub(super) struct Notice<P> {
    pub(super) at_ms: i64,
    pub(super) place: P,
    pub(super) content: Content,
}

/// A place in the log.
pub(super) struct Logged {
    pub(super) event_id: Uuid,
    pub(super) position: i64,
    /// Whether it is to be sent; false if it was recorded for comparison only.
    pub(super) sent: bool,
}

/// A place on the topic.
pub(super) struct Recorded {
    pub(super) event_id: Option<Uuid>,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// The notifications that the other notifier published.
pub(super) struct OtherNotifications {
    pub(super) topic: String,
    pub(super) notices: Vec<Notice<Recorded>>,
    /// The number of records that Belfry made.
    pub(super) by_belfry: u64,
    /// The number of records that are not notifications.
    pub(super) unreadable: u64,
    /// Set if the topic has deleted some of the older records.
    pub(super) complete_since_ms: Option<i64>,
}

/// Reads the log's notifications.
pub(super) async fn read_log(
    store: &Store,
    event_type: &str,
    range: Range,
    names: &mut Names,
) -> Result<Vec<Notice<Logged>>, CompareError> {
    let (lowest, highest) = store.log_bounds().await?;
    let begin = match range.from_ms {
        Some(from_ms) => store.first_position_since(from_ms).await?.unwrap_or(highest + 1),
        None => lowest,
    };
    let mut notices = Vec::new();
    let mut after = begin - 1;
    loop {
        let page = store.read_notifications(after, highest, PAGE, None).await?;
        let Some(last) = page.last() else { return Ok(notices) };
        after = last.position;
        for entry in page.iter().filter(|entry| entry.event_type == event_type && entry.created_at_ms <= range.to_ms) {
            let Some(content) = Content::of(&entry.payload, names) else { continue };
            let place = Logged { event_id: entry.event_id, position: entry.position, sent: entry.topic.is_some() };
            notices.push(Notice { at_ms: entry.created_at_ms, place, content });
        }
        if notices.len() > MAX_COMPARED {
            return Err(CompareError::TooMany);
        }
    }
}

/// Reads the topic's notifications, except for those that Belfry made. Blocks the thread.
pub(super) fn read_topic(
    client: &Client,
    topic: String,
    range: Range,
    mut names: Names,
) -> Result<(OtherNotifications, Names), CompareError> {
    let consumer = client.scanner("belfry-compare")?;
    let metadata = consumer.fetch_metadata(None, SCAN_PATIENCE)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Err(CompareError::NoTopic(topic));
    };
    let mut spans = Vec::with_capacity(found.partitions().len());
    for partition in found.partitions() {
        let (start, high) = consumer.fetch_watermarks(&topic, partition.id(), SCAN_PATIENCE)?;
        spans.push(Span { topic: topic.clone(), partition: partition.id(), start, high });
    }
    let mut cut: Vec<i32> = spans.iter().filter(|span| span.start > 0).map(|span| span.partition).collect();
    if let Some(from_ms) = range.from_ms {
        let starts = offsets_at(&consumer, &spans, from_ms - CLOCKS_MS)?;
        for (span, start) in spans.iter_mut().zip(starts).filter(|(span, start)| *start > span.start) {
            span.start = start;
            cut.retain(|partition| *partition != span.partition);
        }
    }
    let mut others =
        OtherNotifications { topic, notices: Vec::new(), by_belfry: 0, unreadable: 0, complete_since_ms: None };
    let mut too_many = false;
    scan(&consumer, &spans, |message| {
        let at_ms = message.timestamp().to_millis().unwrap_or_default();
        if let Some(place) = cut.iter().position(|partition| *partition == message.partition()) {
            cut.swap_remove(place);
            others.complete_since_ms = others.complete_since_ms.max(Some(at_ms));
        }
        let outside = at_ms > range.to_ms || range.from_ms.is_some_and(|from_ms| at_ms < from_ms);
        too_many |= others.notices.len() > MAX_COMPARED;
        if outside || too_many {
            return;
        }
        match message.payload().and_then(|payload| Content::of(payload, &mut names)) {
            None => others.unreadable += 1,
            Some(content) if content.by_belfry => others.by_belfry += 1,
            Some(content) => {
                let event_id = content.event_id;
                let place = Recorded { event_id, partition: message.partition(), offset: message.offset() };
                others.notices.push(Notice { at_ms, place, content });
            }
        }
    })?;
    if too_many { Err(CompareError::TooMany) } else { Ok((others, names)) }
}
