//! Leases, checkpoints and parked entries.

use std::time::Duration;

use belfry_store::{
    AuditEntry, HeldTopic, LEASE, NewParked, NewParkedRequest, ParkedFilter, ParkedLine, ParkedRequest, ParkedScope,
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use uuid::Uuid;

use crate::{Opened, event, notification, submission};

const SINK: &str = "kafka";
const UNPARK: NewParkedRequest<'_> = NewParkedRequest { request: ParkedRequest::Unpark, by: "local", reason: None };
const DISCARD: NewParkedRequest<'_> =
    NewParkedRequest { request: ParkedRequest::Discard, by: "anna", reason: Some("sent again in parts") };

pub(crate) async fn a_lease_has_one_holder_and_each_holder_an_epoch(opened: Opened) {
    let store = &opened.store;
    let (me, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    assert_eq!(store.acquire_lease(SINK, me).await.expect("an answer"), None, "an unknown sink");
    assert!(store.register_sink(SINK, 7).await.expect("an answer"));
    assert!(!store.register_sink(SINK, 9).await.expect("an answer"));
    let first = store.acquire_lease(SINK, me).await.expect("an answer").expect("the lease");
    assert_eq!(first.position, 7);
    if opened.settings.url.starts_with("postgres") {
        assert_eq!(store.acquire_lease(SINK, other).await.expect("an answer"), None, "it is held");
    }
    store.release_lease(SINK, first.epoch).await.expect("an answer");
    let second = store.acquire_lease(SINK, other).await.expect("an answer").expect("the lease");
    assert_eq!(second.epoch, first.epoch + 1);
    // Releasing a lease that has another holder by now changes nothing.
    store.release_lease(SINK, first.epoch).await.expect("an answer");
    assert!(store.checkpoint(SINK, second.epoch, 8, &[]).await.expect("an answer"));
}

pub(crate) async fn a_checkpoint_never_goes_back_and_only_the_holder_makes_it(opened: Opened) {
    let store = &opened.store;
    store.register_sink(SINK, 0).await.expect("an answer");
    let first = store.acquire_lease(SINK, Uuid::from_u128(1)).await.expect("an answer").expect("the lease");
    assert!(store.checkpoint(SINK, first.epoch, 5, &[]).await.expect("an answer"));
    assert!(!store.checkpoint(SINK, first.epoch, 4, &[]).await.expect("an answer"), "it would go back");
    // The same replica lost its connection and acquired the lease again.
    let second = store.acquire_lease(SINK, Uuid::from_u128(1)).await.expect("an answer").expect("the lease");
    assert_eq!((second.epoch, second.position), (first.epoch + 1, 5));
    assert!(!store.checkpoint(SINK, first.epoch, 9, &[]).await.expect("an answer"), "an earlier holder");
    let blocked = [NewParked {
        position: 6,
        topic: "t".into(),
        event_key: "k".into(),
        error: "too large".into(),
        scope: ParkedScope::Key,
    }];
    assert!(!store.checkpoint(SINK, first.epoch, 9, &blocked).await.expect("an answer"));
    assert_eq!(store.blocked_keys(SINK).await.expect("a query"), [], "nothing of it was recorded");
}

pub(crate) async fn parked_entries_block_their_key_until_they_are_forgotten(opened: Opened) {
    let store = &opened.store;
    store.register_sink(SINK, 0).await.expect("an answer");
    let lease = store.acquire_lease(SINK, Uuid::from_u128(1)).await.expect("an answer").expect("the lease");
    let parked = |position, key: &str| NewParked {
        position,
        topic: "t".into(),
        event_key: key.into(),
        error: "too large\0".into(),
        scope: ParkedScope::Key,
    };
    let all = [parked(1, "a"), parked(2, "b"), parked(3, "a")];
    assert!(store.checkpoint(SINK, lease.epoch, 3, &all).await.expect("an answer"));
    let mut blocked = store.blocked_keys(SINK).await.expect("a query");
    blocked.sort();
    assert_eq!(blocked, [("t".into(), "a".into()), ("t".into(), "b".into())]);

    let at = |position| ParkedFilter { position: Some(position), ..ParkedFilter::default() };
    // The filter matches one entry, and with it all of its key: entries of a key must not pass each other.
    assert_eq!(store.request_parked(&at(3), &UNPARK, 0).await.expect("an answer"), 2);
    assert_eq!(store.request_parked(&at(2), &DISCARD, 0).await.expect("an answer"), 1);
    let requests: Vec<_> = store.parked(&ParkedFilter::default(), 10).await.expect("a query");
    let requests: Vec<_> = requests.iter().map(|parked| (parked.position, parked.request)).collect();
    let (unpark, discard) = (Some(ParkedRequest::Unpark), Some(ParkedRequest::Discard));
    assert_eq!(requests, [(1, unpark), (2, discard), (3, unpark)]);

    assert!(store.forget_parked(SINK, lease.epoch, &[1, 2]).await.expect("an answer"));
    store.keep_parked(SINK, 3, "still too large").await.expect("an answer");
    assert!(!store.forget_parked(SINK, lease.epoch - 1, &[3]).await.expect("an answer"), "an earlier holder");
    let left = store.parked(&ParkedFilter::default(), 10).await.expect("a query");
    assert_eq!(
        (left.len(), left[0].position, left[0].request, left[0].error.as_str()),
        (1, 3, None, "still too large")
    );
}

/// Returns what was discarded, by whom and why.
async fn discarded(opened: &Opened) -> Vec<(i64, String, String)> {
    let (url, columns) = (&opened.settings.url, "SELECT id, discarded_by, reason FROM");
    if url.starts_with("sqlite") {
        let mut connection = SqliteConnection::connect(url).await.expect("a connection");
        let query = AssertSqlSafe(format!("{columns} discarded"));
        return sqlx::query_as(query).fetch_all(&mut connection).await.expect("a query");
    }
    let mut connection = PgConnection::connect(url).await.expect("a connection");
    let query = AssertSqlSafe(format!("{columns} belfry.discarded"));
    sqlx::query_as(query).fetch_all(&mut connection).await.expect("a query")
}

pub(crate) async fn what_is_discarded_stays_known(opened: Opened) {
    let store = &opened.store;
    let now_ms = crate::now_ms();
    opened.commit(vec![submission(1, vec![]), submission(2, vec![]), submission(3, vec![])]).await;
    store.register_sink(SINK, 0).await.expect("an answer");
    let lease = store.acquire_lease(SINK, Uuid::from_u128(1)).await.expect("an answer").expect("the lease");
    let parked = |position| NewParked {
        position,
        topic: "test.event.v1".into(),
        event_key: "a".into(),
        error: "too large".into(),
        scope: ParkedScope::Key,
    };
    let all = [parked(1), parked(2), parked(3)];
    assert!(store.checkpoint(SINK, lease.epoch, 3, &all).await.expect("an answer"));
    let at = |position| ParkedFilter { position: Some(position), ..ParkedFilter::default() };
    for position in [1, 2] {
        assert_eq!(store.request_parked(&at(position), &DISCARD, 0).await.expect("an answer"), 1);
    }
    // Entries without a request are not discarded, and an earlier holder discards nothing.
    assert!(!store.discard_parked(SINK, lease.epoch - 1, &[1], now_ms).await.expect("an answer"));
    assert!(store.discard_parked(SINK, lease.epoch, &[1, 3], now_ms).await.expect("an answer"));
    let left = store.parked(&ParkedFilter::default(), 10).await.expect("a query");
    assert_eq!(left.iter().map(|parked| parked.position).collect::<Vec<_>>(), [2, 3]);
    let audited = store.read_audit(SINK, 0, 3, 10, now_ms).await.expect("a query");
    let excuse = |entry: &AuditEntry| (entry.position, entry.parked, entry.discarded);
    assert_eq!(audited.iter().map(excuse).collect::<Vec<_>>(), [(1, false, true), (2, true, false), (3, true, false)]);
    // It is discarded for one sink only; others get it.
    assert!(!store.read_audit("redis", 0, 3, 10, now_ms).await.expect("a query")[0].discarded);
    assert_eq!(discarded(&opened).await, [(1, "anna".into(), "sent again in parts".into())]);

    // The record is retired with its entry.
    opened.commit(vec![submission(4, vec![]), submission(5, vec![])]).await;
    assert!(store.checkpoint(SINK, lease.epoch, 4, &[]).await.expect("an answer"));
    crate::retention::retire_all(&opened, crate::retention::NOTHING).await;
    assert_eq!(discarded(&opened).await, []);
}

pub(crate) async fn a_heartbeat_tells_what_is_new(opened: Opened) {
    let store = &opened.store;
    let me = Uuid::from_u128(1);
    let before = store.beat(me).await.expect("a beat");
    assert_eq!((before.end, before.leases.len()), (0, 0));
    opened.commit(vec![submission(1, vec![notification(11)])]).await;
    store.register_sink(SINK, 0).await.expect("an answer");
    let lease = store.acquire_lease(SINK, me).await.expect("an answer").expect("the lease");
    store.request_parked(&ParkedFilter::default(), &UNPARK, 0).await.expect("an answer");
    let after = store.beat(me).await.expect("a beat");
    assert_eq!(after.end, 2);
    assert!(after.parked_requests > before.parked_requests);
    assert_eq!(after.incarnation, before.incarnation);
    let held = &after.leases[0];
    assert_eq!((held.name.as_str(), held.owner, held.epoch), (SINK, Some(me), lease.epoch));
    assert!(held.remaining > LEASE - Duration::from_secs(2), "{held:?}");
    store.release_lease(SINK, lease.epoch).await.expect("an answer");
    assert_eq!(store.beat(me).await.expect("a beat").leases[0].remaining, Duration::ZERO);
}

pub(crate) async fn relays_read_published_entries_only(opened: Opened) {
    let mut recorded = submission(1, vec![notification(11)]);
    recorded.event = belfry_store::NewEvent { topic: None, ..event(1, 0) };
    opened.commit(vec![recorded, submission(2, vec![])]).await;
    let page = opened.store.read_relay(0, 10).await.expect("a query");
    let read: Vec<_> = page.entries.iter().map(|entry| (entry.position, entry.is_notification)).collect();
    assert_eq!(read, [(2, true), (3, false)]);
    assert_eq!(page.up_to, 3);
    assert_eq!(opened.store.read_relay(0, 1).await.expect("a query").up_to, 2, "there may be more");
    assert_eq!(opened.store.read_relay(2, 10).await.expect("a query").entries.len(), 1);
    // A position that the log has not reached, as after a standby took over: nothing is read, and nothing is skipped.
    assert_eq!(opened.store.read_relay(99, 10).await.expect("a query").entries, []);
    assert_eq!(page.incarnation, opened.store.beat(Uuid::from_u128(1)).await.expect("a beat").incarnation);
}

pub(crate) async fn pages_are_bounded_by_their_bytes(opened: Opened) {
    let large = |number: u128| {
        let mut large = submission(number, vec![notification(1000 + number)]);
        large.event.payload = bytes::Bytes::from(vec![b'x'; 1 << 20]);
        large.notifications[0].payload = bytes::Bytes::from(vec![b'y'; 700 << 10]);
        large
    };
    for number in 1..=8 {
        opened.commit(vec![large(number)]).await;
    }
    let (mut after, mut positions) = (0, Vec::new());
    loop {
        let page = opened.store.read_relay(after, 1000).await.expect("a query");
        let bytes: usize = page.entries.iter().map(|entry| entry.bytes()).sum();
        assert!(bytes < 6 << 20, "{bytes} bytes in {} entries", page.entries.len());
        positions.extend(page.entries.iter().map(|entry| entry.position));
        after = page.up_to;
        if page.is_last {
            break;
        }
    }
    assert_eq!(positions, (1..=16).collect::<Vec<i64>>(), "none is skipped");
    let (mut after, mut positions) = (0, Vec::new());
    loop {
        let page = opened.store.read_notifications(after, 16, 100, None).await.expect("a query");
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 2, "{} notifications of 700 KiB", page.len());
        after = last.position;
        positions.extend(page.iter().map(|entry| entry.position));
    }
    assert_eq!(positions, (1..=8).map(|number| 2 * number).collect::<Vec<i64>>());
}

pub(crate) async fn a_parked_entry_keeps_what_its_sink_needs(opened: Opened) {
    let store = &opened.store;
    opened.commit(vec![submission(1, vec![notification(11)])]).await;
    store.register_sink(SINK, 0).await.expect("an answer");
    let lease = store.acquire_lease(SINK, Uuid::from_u128(1)).await.expect("an answer").expect("the lease");
    let parked = |position, topic: &str, key: &str| NewParked {
        position,
        topic: topic.into(),
        event_key: key.into(),
        error: "too large".into(),
        scope: ParkedScope::Key,
    };
    let both = [parked(2, "notifications", "teacher"), parked(3, "notifications", "teacher")];
    assert!(store.checkpoint(SINK, lease.epoch, 3, &both).await.expect("an answer"));
    let logged = store.read_relay(0, 10).await.expect("a query").entries;
    opened.commit((4..8).map(|number| submission(number, vec![])).collect()).await;
    // PostgreSQL retires ranges of four positions.
    assert!(store.checkpoint(SINK, lease.epoch, 4, &[]).await.expect("an answer"));
    crate::retention::retire_all(&opened, crate::retention::NOTHING).await;
    assert_eq!(store.log_bounds().await.expect("bounds").0, 5, "the log begins after it");
    let line = ParkedLine::Key("notifications", "teacher");
    let kept = store.read_parked(SINK, line, 10).await.expect("a query");
    assert_eq!(kept.iter().map(|kept| kept.position).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(kept[0].entry.as_ref(), logged.iter().find(|entry| entry.position == 2), "the whole entry");
    assert_eq!(kept[1].entry, None, "it never was in the log");
    assert_eq!(store.read_parked(SINK, line, 1).await.expect("a query").len(), 1);

    // Longer than an index row may be, however it is compressed.
    let long: String = (0..400).map(|_| Uuid::new_v4().to_string()).collect();
    let entries = [parked(7, "notifications", &long), parked(8, &long, "")];
    assert!(store.checkpoint(SINK, lease.epoch, 8, &entries).await.expect("an answer"));
    let of_key = store.read_parked(SINK, ParkedLine::Key("notifications", &long), 10).await.expect("a query");
    assert_eq!(of_key.len(), 1);
}

pub(crate) async fn a_held_topic_is_free_when_nothing_waits_for_it(opened: Opened) {
    let store = &opened.store;
    let topic = "test.event.v1";
    opened.commit(vec![submission(1, vec![]), submission(2, vec![]), submission(3, vec![])]).await;
    store.register_sink(SINK, 0).await.expect("an answer");
    let lease = store.acquire_lease(SINK, Uuid::from_u128(1)).await.expect("an answer").expect("the lease");
    let parked = |position, scope| NewParked {
        position,
        topic: topic.into(),
        event_key: "a".into(),
        error: "missing".into(),
        scope,
    };
    let all = [parked(1, ParkedScope::Key), parked(2, ParkedScope::Topic), parked(3, ParkedScope::Topic)];
    assert!(store.checkpoint(SINK, lease.epoch, 3, &all).await.expect("an answer"));
    assert_eq!(store.blocked_keys(SINK).await.expect("a query"), [(topic.to_owned(), "a".to_owned())]);
    let held = HeldTopic { topic: topic.into(), reason: "missing".into() };
    assert_eq!(store.held_topics(SINK).await.expect("a query"), [held]);
    assert!(!store.lift_hold(SINK, lease.epoch, topic).await.expect("an answer"), "two entries wait");
    let positions = async |line| {
        let read = store.read_parked(SINK, line, 10).await.expect("a query");
        read.iter().map(|parked| parked.position).collect::<Vec<_>>()
    };
    assert_eq!(positions(ParkedLine::Topic(topic)).await, [2, 3]);
    // A rejected entry blocks its key, and the key's entries behind it are blocked as well.
    store.keep_parked(SINK, 2, "too large").await.expect("an answer");
    assert_eq!(positions(ParkedLine::Topic(topic)).await, [] as [i64; 0]);
    assert_eq!(positions(ParkedLine::Key(topic, "a")).await, [1, 2, 3]);
    // Entries that an operator unparks while the topic is held wait for the topic.
    assert_eq!(store.request_parked(&ParkedFilter::default(), &UNPARK, 0).await.expect("an answer"), 3);
    assert_eq!(store.keys_to_unpark(SINK, 10).await.expect("a query"), [(topic.to_owned(), "a".to_owned())]);
    store.wait_for_topic(SINK, topic, "a", "missing").await.expect("an answer");
    assert_eq!(positions(ParkedLine::Topic(topic)).await, [1, 2, 3]);
    assert_eq!(store.blocked_keys(SINK).await.expect("a query"), []);
    assert!(store.forget_parked(SINK, lease.epoch, &[1, 2, 3]).await.expect("an answer"));
    assert!(!store.lift_hold(SINK, lease.epoch - 1, topic).await.expect("an answer"), "an earlier holder");
    assert!(store.lift_hold(SINK, lease.epoch, topic).await.expect("an answer"));
    assert_eq!(store.held_topics(SINK).await.expect("a query"), []);
    assert_eq!(store.count_parked(SINK).await.expect("a query"), 0);
}
