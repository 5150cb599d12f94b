//! What every store does, whichever database is behind it.

use std::time::Duration;

use belfry_store::{
    AddRelease, Added, NewDeadLetter, NewEvent, NewNotification, NewRelease, NotificationHistory, OpenError, Receipt,
    Store, Submission, WITHHELD_EXPIRED, WITHHELD_ISSUED, Writer, WriterSettings,
};
use bytes::Bytes;
use tempfile::TempDir;
use uuid::Uuid;

/// A store in a directory of its own, and its writer.
struct Opened {
    store: Store,
    writer: Writer,
    directory: TempDir,
}

impl Opened {
    async fn new() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let store = Store::open(&url(&directory)).await.expect("a store");
        let settings = WriterSettings { group_entries: 500, group_wait: Duration::from_millis(2), queue: 16 };
        let writer = Writer::start(store.clone(), settings, 0);
        Self { store, writer, directory }
    }

    async fn commit(&self, submissions: Vec<Submission>) -> Vec<Receipt> {
        let receipts = self.writer.submit(submissions).await.expect("the writer runs");
        receipts.await.expect("an answer").expect("a commit")
    }
}

fn url(directory: &TempDir) -> String {
    format!("sqlite:{}", directory.path().join("belfry.db").display())
}

fn event(number: u128, content: u8) -> NewEvent {
    NewEvent {
        event_id: Uuid::from_u128(number),
        content_hash: [content; 32],
        event_type: "test.event.v1".into(),
        aggregate_type: "event",
        aggregate_id: number.to_string(),
        topic: Some("test.event.v1".into()),
        event_key: String::new(),
        payload: Bytes::from_static(b"{}"),
        headers: Bytes::from_static(b"{}"),
        projections: Bytes::from_static(b"[]"),
    }
}

fn notification(number: u128) -> NewNotification {
    NewNotification {
        notification_id: Uuid::from_u128(number),
        topic: "notifications".into(),
        recipient: "teacher".into(),
        payload: Bytes::from_static(b"{}"),
        headers: Bytes::from_static(b"{}"),
        release_id: 1,
        expires_at_ms: None,
    }
}

fn submission(number: u128, notifications: Vec<NewNotification>) -> Submission {
    Submission { event: event(number, 0), notifications, dead_letters: Vec::new() }
}

fn accepted(position: i64, notifications: &[Result<i64, &'static str>]) -> Receipt {
    Receipt::Accepted { position, notifications: notifications.to_vec(), dead_letters: Vec::new() }
}

#[tokio::test]
async fn events_and_their_notifications_stand_together_in_order() {
    let opened = Opened::new().await;
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
    let published = opened.store.read_published(0, 100).await.expect("a query");
    assert_eq!(published.iter().map(|entry| entry.position).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(*opened.writer.committed().borrow(), 6);
}

#[tokio::test]
async fn an_event_id_is_taken_once() {
    let opened = Opened::new().await;
    let twin = |content| Submission { event: event(1, content), notifications: vec![], dead_letters: vec![] };
    // In one group, and in groups one after the other.
    assert_eq!(
        opened.commit(vec![twin(0), twin(0), twin(1)]).await,
        [accepted(1, &[]), Receipt::Duplicate, Receipt::Conflict]
    );
    assert_eq!(opened.commit(vec![twin(1), twin(0)]).await, [Receipt::Conflict, Receipt::Duplicate]);
    let known = opened.store.known(&[Uuid::from_u128(1), Uuid::from_u128(2)]).await.expect("a query");
    assert_eq!(known.into_iter().collect::<Vec<_>>(), [(Uuid::from_u128(1), [0; 32])]);
}

#[tokio::test]
async fn a_notification_is_issued_once_whatever_leads_to_it() {
    let opened = Opened::new().await;
    opened.commit(vec![submission(1, vec![notification(11)])]).await;
    let again = vec![submission(2, vec![notification(11), notification(21), notification(21)])];
    assert_eq!(opened.commit(again).await, [accepted(3, &[Err(WITHHELD_ISSUED), Ok(4), Err(WITHHELD_ISSUED)])]);
    let history = opened.store.event(Uuid::from_u128(2)).await.expect("a query").expect("the event");
    assert_eq!(history.withheld.iter().map(|one| one.reason.as_str()).collect::<Vec<_>>(), [WITHHELD_ISSUED; 2]);
}

#[tokio::test]
async fn an_expired_notification_is_withheld_and_not_issued() {
    let opened = Opened::new().await;
    let expired = NewNotification { expires_at_ms: Some(1), ..notification(11) };
    assert_eq!(opened.commit(vec![submission(1, vec![expired])]).await, [accepted(1, &[Err(WITHHELD_EXPIRED)])]);
    let found = opened.store.notification(Uuid::from_u128(11)).await.expect("a query");
    assert!(matches!(found, Some(NotificationHistory::Withheld(_))), "{found:?}");
    assert_eq!(opened.commit(vec![submission(2, vec![notification(11)])]).await, [accepted(2, &[Ok(3)])]);
}

#[tokio::test]
async fn dead_letters_are_kept_with_their_event() {
    let opened = Opened::new().await;
    let letter = NewDeadLetter { projector: "p".into(), release_id: 1, cause: "trapped", detail: "a bug".into() };
    let failed = Submission { dead_letters: vec![letter], ..submission(1, vec![]) };
    let expected = Receipt::Accepted { position: 1, notifications: vec![], dead_letters: vec![1] };
    assert_eq!(opened.commit(vec![failed]).await, [expected]);
    let history = opened.store.event(Uuid::from_u128(1)).await.expect("a query").expect("the event");
    assert_eq!((history.dead_letters[0].cause.as_str(), history.dead_letters[0].detail.as_str()), ("trapped", "a bug"));
}

#[tokio::test]
async fn what_is_old_is_retired_but_not_before_the_sinks_have_it() {
    let opened = Opened::new().await;
    opened.commit((0..10).map(|number| submission(number, vec![])).collect()).await;
    let retired = opened.store.retire(4, i64::MAX, 0, 100).await.expect("a retirement");
    assert_eq!((retired.log, retired.inbox), (4, 0));
    assert_eq!(opened.store.log_bounds().await.expect("a query"), (5, 10));
    opened.store.retire(i64::MAX, i64::MAX, i64::MAX, 100).await.expect("a retirement");
    assert_eq!(opened.store.log_bounds().await.expect("a query"), (11, 10));
    // What is forgotten may come again, at a new position.
    assert_eq!(opened.commit(vec![submission(0, vec![])]).await, [accepted(11, &[])]);
}

#[tokio::test]
async fn a_version_names_one_component() {
    let opened = Opened::new().await;
    let release = |digest, config: &str| NewRelease {
        projector: "p".into(),
        version: "1.0.0".into(),
        digest: [digest; 32],
        component: Bytes::from_static(b"component"),
        config: config.into(),
        description: "{}".into(),
        note: String::new(),
        created_by: "test".into(),
    };
    let add = async |digest, config| opened.store.add_release(&release(digest, config), 0).await.expect("an answer");
    let AddRelease::There(Added::New, first) = add(1, "{}").await else { panic!("a new release") };
    assert!(matches!(add(1, "{}").await, AddRelease::There(Added::Existing, same) if same.id == first.id));
    assert!(matches!(add(1, r#"{"a":1}"#).await, AddRelease::There(Added::New, other) if other.id != first.id));
    assert_eq!(add(2, "{}").await, AddRelease::OtherDigest([1; 32]));
}

#[tokio::test]
async fn the_release_before_is_known() {
    let opened = Opened::new().await;
    let mut releases = Vec::new();
    for config in ["1", "2"] {
        let new = NewRelease {
            projector: "p".into(),
            version: "1.0.0".into(),
            digest: [1; 32],
            component: Bytes::from_static(b"component"),
            config: config.into(),
            description: "{}".into(),
            note: String::new(),
            created_by: "test".into(),
        };
        let AddRelease::There(_, release) = opened.store.add_release(&new, 0).await.expect("an answer") else {
            panic!("a release")
        };
        opened.store.activate(&release, "test", 0).await.expect("an activation");
        releases.push(release);
    }
    let rollouts = opened.store.rollouts().await.expect("a query");
    assert_eq!((rollouts[0].release_id, rollouts[0].previous_release_id), (releases[1].id, Some(releases[0].id)));
}

#[tokio::test]
async fn a_store_has_one_owner() {
    let opened = Opened::new().await;
    let second = Store::open(&url(&opened.directory)).await.map(|_| ());
    assert!(matches!(second, Err(OpenError::Locked(_))), "{second:?}");
    let unknown = Store::open("mysql://user:secret@host/db").await.map(|_| ()).expect_err("unknown");
    assert!(!unknown.to_string().contains("host"), "nothing that may be secret is told: {unknown}");
}
