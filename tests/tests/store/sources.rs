//! The positions of sources.

use belfry_store::{
    Advance, Batch, BatchReceipt, Origin, Receipt, SourcePartition, SourcePosition, Submission, Unreadable,
};
use bytes::Bytes;
use uuid::Uuid;

use crate::{Opened, accepted, event, submission};

fn partition(partition: i32) -> SourcePartition {
    SourcePartition { group: "belfry".into(), topic: "events".into(), partition }
}

fn position(partition_number: i32, next: i64, topic_id: Option<&str>) -> SourcePosition {
    SourcePosition { partition: partition(partition_number), next, topic_id: topic_id.map(str::to_owned) }
}

fn batch(number: u128, partition_number: i32, expected: i64, next: i64) -> Batch {
    Batch {
        submissions: vec![submission(number, vec![])],
        unreadable: Vec::new(),
        advance: Some(Advance { partition: partition(partition_number), expected, next }),
    }
}

pub(crate) async fn a_source_begins_where_it_is_told_once(opened: Opened) {
    let store = &opened.store;
    assert_eq!(store.begin_source(&partition(0), 7).await.expect("a position"), 7);
    assert_eq!(store.begin_source(&partition(0), 9).await.expect("a position"), 7);
    store.set_source_position(&position(0, 9, None), "test", 0).await.expect("a position");
    store.set_source_position(&position(1, 3, None), "test", 0).await.expect("a position");
    let positions = store.source_positions("belfry", Some("events")).await.expect("a query");
    assert_eq!(positions, [position(0, 9, None), position(1, 3, None)]);
    assert_eq!(store.source_positions("other", None).await.expect("a query"), []);
}

pub(crate) async fn a_position_belongs_to_a_topic_by_its_id(opened: Opened) {
    let store = &opened.store;
    store.begin_sources(&[position(0, 7, None), position(1, 8, Some("first"))]).await.expect("positions");
    // An id that is already known is kept.
    store.note_topic_id("belfry", "events", "second").await.expect("a note");
    store.note_topic_id("other", "events", "third").await.expect("a note");
    let positions = store.source_positions("belfry", None).await.expect("a query");
    assert_eq!(positions, [position(0, 7, Some("second")), position(1, 8, Some("first"))]);
    // Reading does not change it; setting the position does.
    opened.commit_batch(batch(1, 1, 8, 9)).await;
    store.set_source_position(&position(0, 0, Some("third")), "test", 0).await.expect("a position");
    let positions = store.source_positions("belfry", None).await.expect("a query");
    assert_eq!(positions, [position(0, 0, Some("third")), position(1, 9, Some("first"))]);
}

pub(crate) async fn a_position_moves_only_from_where_it_is_believed_to_be(opened: Opened) {
    opened.store.begin_source(&partition(0), 0).await.expect("a position");
    assert_eq!(opened.commit_batch(batch(1, 0, 0, 5)).await, BatchReceipt::Committed(vec![accepted(1, &[])]));
    // A former owner that still considers the partition its own submits it again, together with a new event.
    assert_eq!(opened.commit_batch(batch(2, 0, 0, 8)).await, BatchReceipt::Fenced);
    assert!(opened.store.event(Uuid::from_u128(2)).await.expect("a query").is_none(), "nothing of it took effect");
    let positions = opened.store.source_positions("belfry", None).await.expect("a query");
    assert_eq!(positions, [position(0, 5, None)]);
    // A partition without a position has no owner.
    assert_eq!(opened.commit_batch(batch(3, 1, 0, 1)).await, BatchReceipt::Fenced);
}

pub(crate) async fn batches_of_one_partition_follow_each_other_in_a_group(opened: Opened) {
    opened.store.begin_source(&partition(0), 0).await.expect("a position");
    opened.store.begin_source(&partition(1), 4).await.expect("a position");
    let mut pending = Vec::new();
    for batch in [
        batch(1, 0, 0, 2),
        batch(2, 1, 0, 9), // expects another position
        batch(3, 0, 2, 3),
        batch(4, 0, 7, 8), // does not continue the position
        batch(5, 1, 4, 6),
    ] {
        pending.push(opened.writer.submit(batch).await.expect("the writer runs"));
    }
    let mut fenced = Vec::new();
    for receipt in pending {
        fenced.push(receipt.await.expect("an answer").expect("a commit") == BatchReceipt::Fenced);
    }
    let positions = opened.store.source_positions("belfry", None).await.expect("a query");
    // Alone or grouped: a batch that continues its position commits, one that does not is fenced, and the other
    // partition is not held up.
    assert_eq!((fenced[0], fenced[2], fenced[3]), (false, false, true));
    assert_eq!(positions[0], position(0, 3, None));
    assert!(fenced[1], "{fenced:?}");
}

pub(crate) async fn records_that_are_no_events_and_conflicts_become_dead_letters(opened: Opened) {
    opened.store.begin_source(&partition(0), 0).await.expect("a position");
    let origin = |offset| Some(Origin { topic: "events".into(), partition: 0, offset });
    let from_source = |content, offset| Submission {
        event: event(1, content),
        notifications: vec![],
        dead_letters: vec![],
        muted: false,
        origin: origin(offset),
    };
    let unreadable = Unreadable {
        topic: "events".into(),
        partition: 0,
        offset: 1,
        event_id: None,
        cause: "undecodable",
        detail: "not JSON\0".into(),
        payload: Bytes::from_static(b"\xff\0"),
    };
    let batch = Batch {
        submissions: vec![from_source(0, 0), from_source(0, 2), from_source(7, 3)],
        unreadable: vec![unreadable],
        advance: Some(Advance { partition: partition(0), expected: 0, next: 4 }),
    };
    let receipt = opened.commit_batch(batch).await;
    assert_eq!(receipt, BatchReceipt::Committed(vec![accepted(1, &[]), Receipt::Duplicate, Receipt::Conflict]));
    let history = opened.store.event(Uuid::from_u128(1)).await.expect("a query").expect("the event");
    let causes: Vec<&str> = history.dead_letters.iter().map(|letter| letter.cause.as_str()).collect();
    assert_eq!(causes, ["conflict"]);
    assert_eq!(history.dead_letters[0].origin, origin(3));
}
