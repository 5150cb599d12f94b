//! An event or a release that the database rejects harms no other.

use belfry_store::{
    Advance, Batch, BatchReceipt, DeadLetterFilter, NewEvent, NewNotification, Origin, Receipt, SourcePartition,
    Submission, UNSTORABLE,
};
use bytes::Bytes;
use uuid::Uuid;

use crate::{Opened, event, notification, submission};

/// Returns an event with U+0000 in a text, which PostgreSQL rejects and SQLite accepts.
fn with_nul(number: u128) -> Submission {
    let event = NewEvent { event_type: "nul\0".into(), ..event(number, 0) };
    Submission { event, ..submission(number, vec![]) }
}

fn notification_of(number: u128, release_id: i64, expires_at_ms: Option<i64>) -> NewNotification {
    NewNotification { release_id, expires_at_ms, ..notification(number) }
}

/// Several senders in one group: each batch has its own answer.
#[tokio::test]
async fn an_event_that_cannot_be_stored_harms_no_other() {
    let opened = Opened::postgres().await;
    let batches = [
        vec![submission(1, vec![notification(11)])],
        vec![submission(2, vec![]), with_nul(3)],
        vec![submission(4, vec![])],
    ];
    let mut pending = Vec::new();
    for submissions in batches {
        pending.push(opened.writer.submit(Batch::of(submissions)).await.expect("the writer runs"));
    }
    let mut receipts = Vec::new();
    for receipt in pending {
        let BatchReceipt::Committed(of_batch) = receipt.await.expect("an answer").expect("a commit") else {
            panic!("fenced without a position");
        };
        receipts.extend(of_batch);
    }
    let position = |receipt: &Receipt| matches!(receipt, Receipt::Accepted { .. });
    assert_eq!(receipts.iter().map(position).collect::<Vec<_>>(), [true, true, false, true], "{receipts:?}");
    assert!(matches!(&receipts[2], Receipt::Unstorable(reason) if reason.contains("0x00")), "{receipts:?}");
    assert!(opened.writer.failure().borrow().is_none(), "the database works");
}

#[tokio::test]
async fn a_record_that_cannot_be_stored_becomes_a_dead_letter_and_its_partition_goes_on() {
    let opened = Opened::postgres().await;
    let partition = SourcePartition { group: "belfry".into(), topic: "t".into(), partition: 0 };
    opened.store.begin_source(&partition, 5).await.expect("an answer");
    let read = |submission: Submission, offset| {
        let origin = Some(Origin { topic: "t".into(), partition: 0, offset });
        Submission { origin, ..submission }
    };
    let batch = Batch {
        submissions: vec![read(submission(1, vec![]), 5), read(with_nul(2), 6), read(submission(3, vec![]), 7)],
        unreadable: Vec::new(),
        advance: Some(Advance { partition: partition.clone(), expected: 5, next: 8 }),
    };
    let BatchReceipt::Committed(receipts) = opened.commit_batch(batch.clone()).await else { panic!("fenced") };
    // Rolled-back entries leave a gap in the positions.
    let [Receipt::Accepted { position: first, .. }, Receipt::Unstorable(_), Receipt::Accepted { position: last, .. }] =
        receipts.as_slice()
    else {
        panic!("{receipts:?}");
    };
    assert!(first < last, "{receipts:?}");
    let letters = opened.store.dead_letters(&DeadLetterFilter::default(), 0, 10).await.expect("a query");
    let letter = letters.first().expect("a dead letter");
    assert_eq!((letter.cause.as_str(), letter.origin.as_ref().map(|origin| origin.offset)), (UNSTORABLE, Some(6)));
    let positions = opened.store.source_positions("belfry", None).await.expect("a query");
    assert_eq!(positions.iter().map(|one| (&one.partition, one.next)).collect::<Vec<_>>(), [(&partition, 8)]);
    assert_eq!(opened.commit_batch(batch).await, BatchReceipt::Fenced, "the position has moved");
}

#[tokio::test]
async fn a_release_whose_notifications_cannot_be_stored_fails_alone() {
    let opened = Opened::postgres().await;
    let projections =
        br#"[{"projector":"bad","release_id":1,"release":"bad@1.0.0#1","outcome":"notifications","count":2},
        {"projector":"good","release_id":2,"release":"good@1.0.0#2","outcome":"notifications","count":1}]"#;
    let event = NewEvent { projections: Bytes::from_static(projections), ..event(1, 0) };
    let notifications =
        vec![notification_of(11, 1, None), notification_of(12, 1, Some(i64::MAX)), notification_of(21, 2, None)];
    let receipts = opened.commit(vec![Submission { event, ..submission(1, notifications) }]).await;
    let [Receipt::Accepted { position, notifications, dead_letters }] = receipts.as_slice() else {
        panic!("{receipts:?}");
    };
    assert_eq!(notifications.as_slice(), [Err(UNSTORABLE), Err(UNSTORABLE), Ok(position + 1)]);
    assert_eq!(dead_letters.len(), 1);
    let history = opened.store.event(Uuid::from_u128(1)).await.expect("a query").expect("the event");
    assert_eq!(history.dead_letters[0].projector.as_deref(), Some("bad"));
    let recorded = String::from_utf8(history.event.projections.unwrap_or_default()).expect("a text");
    assert!(recorded.contains(r#""outcome":"unstorable","count":0"#), "{recorded}");
}
