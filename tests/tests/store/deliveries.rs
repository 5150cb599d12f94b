//! The progress of each sink with an entry.

use belfry_store::{DeliveryState, NewParked, NewParkedRequest, ParkedFilter, ParkedRequest, ParkedScope};
use uuid::Uuid;

use crate::{Opened, notification, now_ms, submission};

const SINK: &str = "kafka";

async fn state(opened: &Opened, position: i64) -> (DeliveryState, Option<String>) {
    let mut all = opened.store.deliveries(position).await.expect("a query");
    assert_eq!(all.len(), 1, "sources hold leases too, but are not sinks: {all:?}");
    let delivery = all.remove(0);
    (delivery.state, delivery.detail)
}

fn parked(position: i64) -> NewParked {
    NewParked {
        position,
        topic: "notifications".into(),
        event_key: "teacher".into(),
        error: "too large".into(),
        scope: ParkedScope::Key,
    }
}

pub(crate) async fn how_far_a_sink_came_with_an_entry_is_known(opened: Opened) {
    let store = &opened.store;
    // Positions 1 to 6: an event, and five notifications.
    let notifications = vec![notification(11), notification(12), notification(13), notification(14), notification(15)];
    opened.commit(vec![submission(1, notifications)]).await;
    store.register_sink("source:group", 0).await.expect("a lease of a source");
    store.register_sink(SINK, 1).await.expect("a sink that begins after the event");
    assert_eq!(state(&opened, 1).await.0, DeliveryState::BeforeTheSink);
    assert_eq!(state(&opened, 2).await.0, DeliveryState::Waiting);
    let lease = store.acquire_lease(SINK, Uuid::from_u128(1)).await.expect("an answer").expect("the lease");
    assert!(!store.note_expired(SINK, lease.epoch - 1, &[2, 5]).await.expect("an answer"), "an earlier holder");
    assert!(store.note_expired(SINK, lease.epoch, &[5]).await.expect("an answer"));
    assert!(store.checkpoint(SINK, lease.epoch, 5, &[parked(3), parked(4)]).await.expect("an answer"));
    let sent = store.deliveries(2).await.expect("a query").remove(0);
    assert_eq!(sent.state, DeliveryState::Acknowledged);
    assert!(sent.at_ms.is_some_and(|at_ms| (at_ms - now_ms()).abs() < 60_000), "{sent:?}");
    assert_eq!(state(&opened, 3).await, (DeliveryState::Parked, Some("too large".into())));
    assert_eq!(state(&opened, 6).await.0, DeliveryState::Waiting);
    assert_eq!(state(&opened, 5).await.0, DeliveryState::Expired);
    let at = |position| ParkedFilter { position: Some(position), ..ParkedFilter::default() };
    let discard = NewParkedRequest { request: ParkedRequest::Discard, by: "anna", reason: Some("told by hand") };
    store.request_parked(&at(4), &discard, now_ms()).await.expect("an answer");
    assert!(store.discard_parked(SINK, lease.epoch, &[4], now_ms()).await.expect("an answer"));
    assert_eq!(state(&opened, 4).await, (DeliveryState::Discarded, Some("by anna: told by hand".into())));
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(store.forget_parked(SINK, lease.epoch, &[3]).await.expect("an answer"), "it was sent after all");
    let late = store.deliveries(3).await.expect("a query").remove(0);
    assert_eq!(late.state, DeliveryState::Acknowledged);
    assert!(late.at_ms >= sent.at_ms.map(|at_ms| at_ms + 50), "the time of sending, not of parking: {late:?}");
}
