//! Events, their notifications and dead letters.

use belfry_store::{
    DeadLetterFilter, NewDeadLetter, NewNotification, NotificationHistory, Receipt, Redrive, RedriveOutcome, Redriven,
    Submission, WITHHELD_EXPIRED, WITHHELD_ISSUED,
};
use uuid::Uuid;

use crate::{Opened, accepted, event, notification, now_ms, submission};

pub(crate) async fn events_and_their_notifications_stand_together_in_order(opened: Opened) {
    let group = vec![
        submission(1, vec![notification(11), notification(12)]),
        submission(2, vec![]),
        submission(3, vec![notification(31)]),
    ];
    let receipts = opened.commit(group).await;
    assert_eq!(receipts, [accepted(1, &[Ok(2), Ok(3)]), accepted(4, &[]), accepted(5, &[Ok(6)])]);
    let history = opened.store.event(Uuid::from_u128(1)).await.expect("a query").expect("the event");
    let positions: Vec<i64> = history.notifications.iter().map(|entry| entry.position).collect();
    assert_eq!(positions, [2, 3]);
    let published = opened.store.read_relay(0, 100).await.expect("a query").entries;
    assert_eq!(published.iter().map(|entry| entry.position).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(*opened.writer.committed().borrow(), 6);
    assert_eq!(*opened.log_end.borrow(), 6);
}

pub(crate) async fn pieces_of_the_log_are_found_by_their_time(opened: Opened) {
    let store = &opened.store;
    assert_eq!(store.position_at(now_ms()).await.expect("a query"), 0, "an empty log");
    let mut pauses = Vec::new();
    for number in 1..=5u128 {
        opened.commit(vec![submission(number, vec![notification(number + 10)])]).await;
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        pauses.push(now_ms());
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
    assert_eq!(store.position_at(0).await.expect("a query"), 0);
    for (group, pause) in (1..).zip(&pauses) {
        assert_eq!(store.position_at(*pause).await.expect("a query"), group * 2, "after group {group}");
    }
    let page = store.read_log(2, 7, 100).await.expect("a query");
    assert_eq!(page.iter().map(|entry| entry.position).collect::<Vec<_>>(), [3, 4, 5, 6, 7]);
    assert_eq!(page.iter().filter(|entry| entry.source_event_id.is_none()).count(), 3);
    assert_eq!(store.read_log(2, 7, 2).await.expect("a query").len(), 2);
    assert_eq!(store.count_events(2, 7).await.expect("a query"), 3);
}

pub(crate) async fn an_event_id_is_taken_once(opened: Opened) {
    let twin = |content| Submission {
        event: event(1, content),
        notifications: vec![],
        dead_letters: vec![],
        muted: false,
        origin: None,
    };
    // In one group, and in consecutive groups.
    assert_eq!(
        opened.commit(vec![twin(0), twin(0), twin(1)]).await,
        [accepted(1, &[]), Receipt::Duplicate, Receipt::Conflict]
    );
    assert_eq!(opened.commit(vec![twin(1), twin(0)]).await, [Receipt::Conflict, Receipt::Duplicate]);
    let known = opened.store.known(&[Uuid::from_u128(1), Uuid::from_u128(2)]).await.expect("a query");
    assert_eq!(known.into_iter().collect::<Vec<_>>(), [(Uuid::from_u128(1), [0; 32])]);
}

pub(crate) async fn a_notification_is_issued_once_whatever_leads_to_it(opened: Opened) {
    opened.commit(vec![submission(1, vec![notification(11)])]).await;
    let again = vec![submission(2, vec![notification(11), notification(21), notification(21)])];
    assert_eq!(opened.commit(again).await, [accepted(3, &[Err(WITHHELD_ISSUED), Ok(4), Err(WITHHELD_ISSUED)])]);
    let history = opened.store.event(Uuid::from_u128(2)).await.expect("a query").expect("the event");
    assert_eq!(history.withheld.iter().map(|one| one.reason.as_str()).collect::<Vec<_>>(), [WITHHELD_ISSUED; 2]);
}

pub(crate) async fn another_try_tells_what_was_not_told_before_and_once(opened: Opened) {
    let store = &opened.store;
    let letter =
        || NewDeadLetter { projector: "p".into(), release_id: 1, cause: "rejected", detail: "odd: why".into() };
    let failed = Submission { dead_letters: vec![letter(), letter()], ..submission(1, vec![notification(11)]) };
    opened.commit(vec![failed, submission(2, vec![])]).await;
    let groups = store.dead_letter_groups(&DeadLetterFilter::default()).await.expect("a query");
    assert_eq!((groups.len(), groups[0].count, groups[0].code.as_deref()), (1, 2, Some("odd")));
    let try_again = |id, outcome| Redrive { id, event: Uuid::from_u128(1), outcome, by: "test".into() };
    let still = RedriveOutcome::StillDead { release_id: 2, cause: "trapped", detail: "again".into() };
    let answer = store.redrive(&try_again(1, still), now_ms()).await.expect("an answer");
    assert_eq!(answer, Redriven::StillDead);
    let trapped = DeadLetterFilter { cause: Some("trapped".into()), ..DeadLetterFilter::default() };
    let waiting = store.dead_letters(&trapped, 0, 10).await.expect("a query");
    assert_eq!((waiting.len(), waiting[0].id, waiting[0].release_id), (1, 1, Some(2)));
    let made = || RedriveOutcome::Notifications {
        notifications: vec![notification(11), notification(12), notification(13)],
        muted: false,
    };
    let answer = store.redrive(&try_again(1, made()), now_ms()).await.expect("an answer");
    assert_eq!(answer, Redriven::Notified(vec![Err(WITHHELD_ISSUED), Ok(4), Ok(5)]));
    let answer = store.redrive(&try_again(1, made()), now_ms()).await.expect("an answer");
    assert_eq!(answer, Redriven::Settled);
    let history = store.event(Uuid::from_u128(1)).await.expect("a query").expect("the event");
    let positions: Vec<i64> = history.notifications.iter().map(|entry| entry.position).collect();
    assert_eq!(positions, [2, 4, 5]);
    assert_eq!(history.withheld.len(), 1);
    let settled = store.dead_letter(1).await.expect("a query").expect("it").settled.expect("it is settled");
    assert_eq!((settled.how.as_str(), settled.notifications), ("redriven", Some((4, 2))));
    let all = DeadLetterFilter::default();
    assert_eq!(store.discard_dead_letters(&all, "test", "why", now_ms()).await.expect("an answer"), 1);
    assert!(store.dead_letters(&all, 0, 10).await.expect("a query").is_empty());
    let discarded = store.dead_letter(2).await.expect("a query").expect("it").settled.expect("it is settled");
    assert_eq!((discarded.how.as_str(), discarded.reason.as_deref()), ("discarded", Some("why")));
}

pub(crate) async fn an_expired_notification_is_withheld_and_not_issued(opened: Opened) {
    let expired = NewNotification { expires_at_ms: Some(1), ..notification(11) };
    assert_eq!(opened.commit(vec![submission(1, vec![expired])]).await, [accepted(1, &[Err(WITHHELD_EXPIRED)])]);
    let found = opened.store.notification(Uuid::from_u128(11)).await.expect("a query");
    assert!(matches!(found, Some(NotificationHistory::Withheld(_))), "{found:?}");
    assert_eq!(opened.commit(vec![submission(2, vec![notification(11)])]).await, [accepted(2, &[Ok(3)])]);
}

pub(crate) async fn dead_letters_are_kept_with_their_event(opened: Opened) {
    let letter = NewDeadLetter { projector: "p".into(), release_id: 1, cause: "trapped", detail: "a bug".into() };
    let failed = Submission { dead_letters: vec![letter], ..submission(1, vec![]) };
    let expected = Receipt::Accepted { position: 1, notifications: vec![], dead_letters: vec![1] };
    assert_eq!(opened.commit(vec![failed]).await, [expected]);
    let history = opened.store.event(Uuid::from_u128(1)).await.expect("a query").expect("the event");
    assert_eq!((history.dead_letters[0].cause.as_str(), history.dead_letters[0].detail.as_str()), ("trapped", "a bug"));
}
