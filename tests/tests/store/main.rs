//! The behaviour of every store, whichever its database. Each behaviour is tested on SQLite and on PostgreSQL.

mod changes;
mod deliveries;
mod events;
mod lost_answer;
mod refusals;
mod relays;
mod releases;
mod retention;
mod sources;
mod sqlite_file;
mod tokens;
mod upgrade;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use belfry_store::{
    Batch, BatchReceipt, NewEvent, NewNotification, OpenError, Receipt, Store, StoreSettings, Submission, Writer,
    WriterSettings,
};
use belfry_tests::servers::shared_postgres;
use bytes::Bytes;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use tokio::sync::watch;
use uuid::Uuid;

/// A separate store and its writer.
pub(crate) struct Opened {
    pub(crate) store: Store,
    pub(crate) settings: StoreSettings,
    pub(crate) writer: Writer,
    pub(crate) log_end: watch::Sender<i64>,
    _directory: Option<TempDir>,
}

impl Opened {
    async fn sqlite() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let url = format!("sqlite:{}", directory.path().join("belfry.db").display());
        Self::open(StoreSettings::new(url), Some(directory)).await
    }

    async fn postgres() -> Self {
        let server = shared_postgres().await.expect("a PostgreSQL server");
        let database = server.create_database().await.expect("a database");
        let settings = StoreSettings { partition_entries: 4, ..StoreSettings::new(database.url) };
        Self::open(settings, None).await
    }

    async fn open(settings: StoreSettings, directory: Option<TempDir>) -> Self {
        let store = Store::open(&settings).await.expect("a store");
        let log_end = watch::Sender::new(0);
        let gathering = WriterSettings { group_entries: 500, group_wait: Duration::from_millis(2), queue: 16 };
        let writer = Writer::start(store.clone(), gathering, log_end.clone());
        Self { store, settings, writer, log_end, _directory: directory }
    }

    pub(crate) async fn commit(&self, submissions: Vec<Submission>) -> Vec<Receipt> {
        match self.commit_batch(Batch::of(submissions)).await {
            BatchReceipt::Committed(receipts) => receipts,
            BatchReceipt::Fenced => panic!("fenced without a position"),
        }
    }

    pub(crate) async fn commit_batch(&self, batch: Batch) -> BatchReceipt {
        let receipt = self.writer.submit(batch).await.expect("the writer runs");
        receipt.await.expect("an answer").expect("a commit")
    }
}

pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

pub(crate) fn event(number: u128, content: u8) -> NewEvent {
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

pub(crate) fn notification(number: u128) -> NewNotification {
    NewNotification {
        notification_id: Uuid::from_u128(number),
        event_type: "notifications".into(),
        topic: Some("notifications".into()),
        recipient: "teacher".into(),
        payload: Bytes::from_static(b"{}"),
        headers: Bytes::from_static(b"{}"),
        release_id: 1,
        expires_at_ms: None,
    }
}

pub(crate) fn submission(number: u128, notifications: Vec<NewNotification>) -> Submission {
    Submission { event: event(number, 0), notifications, dead_letters: Vec::new(), muted: false, origin: None }
}

pub(crate) fn accepted(position: i64, notifications: &[Result<i64, &'static str>]) -> Receipt {
    Receipt::Accepted { position, notifications: notifications.to_vec(), dead_letters: Vec::new() }
}

/// Tests each behaviour on a separate store of each kind.
macro_rules! on_every_store {
    ($($behaviour:path as $name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                $behaviour(crate::Opened::sqlite().await).await;
            })+
        }

        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                $behaviour(crate::Opened::postgres().await).await;
            })+
        }
    };
}

on_every_store! {
    crate::changes::a_change_is_noted_with_it as a_change_is_noted_with_it,
    crate::changes::changes_are_found as changes_are_found,
    crate::changes::what_cannot_be_noted_is_not_done as what_cannot_be_noted_is_not_done,
    crate::deliveries::how_far_a_sink_came_with_an_entry_is_known as how_far_a_sink_came_with_an_entry_is_known,
    crate::changes::the_audit_log_is_only_appended_to as the_audit_log_is_only_appended_to,
    crate::events::events_and_their_notifications_stand_together_in_order as events_and_their_notifications_stand_together_in_order,
    crate::events::pieces_of_the_log_are_found_by_their_time as pieces_of_the_log_are_found_by_their_time,
    crate::events::an_event_id_is_taken_once as an_event_id_is_taken_once,
    crate::events::a_notification_is_issued_once_whatever_leads_to_it as a_notification_is_issued_once_whatever_leads_to_it,
    crate::events::an_expired_notification_is_withheld_and_not_issued as an_expired_notification_is_withheld_and_not_issued,
    crate::events::another_try_tells_what_was_not_told_before_and_once as another_try_tells_what_was_not_told_before_and_once,
    crate::events::dead_letters_are_kept_with_their_event as dead_letters_are_kept_with_their_event,
    crate::retention::what_is_old_is_retired_but_not_before_every_known_sink_has_it as what_is_old_is_retired_but_not_before_every_known_sink_has_it,
    crate::retention::what_is_young_stays as what_is_young_stays,
    crate::retention::a_gap_is_known_until_someone_goes_on_behind_it as a_gap_is_known_until_someone_goes_on_behind_it,
    crate::releases::a_version_names_one_component as a_version_names_one_component,
    crate::releases::the_release_before_is_known as the_release_before_is_known,
    crate::releases::a_component_may_be_vouched_for_later_and_by_several as a_component_may_be_vouched_for_later_and_by_several,
    crate::sources::a_position_moves_only_from_where_it_is_believed_to_be as a_position_moves_only_from_where_it_is_believed_to_be,
    crate::sources::a_position_belongs_to_a_topic_by_its_id as a_position_belongs_to_a_topic_by_its_id,
    crate::sources::batches_of_one_partition_follow_each_other_in_a_group as batches_of_one_partition_follow_each_other_in_a_group,
    crate::sources::records_that_are_no_events_and_conflicts_become_dead_letters as records_that_are_no_events_and_conflicts_become_dead_letters,
    crate::sources::a_source_begins_where_it_is_told_once as a_source_begins_where_it_is_told_once,
    crate::relays::a_lease_has_one_holder_and_each_holder_an_epoch as a_lease_has_one_holder_and_each_holder_an_epoch,
    crate::relays::a_checkpoint_never_goes_back_and_only_the_holder_makes_it as a_checkpoint_never_goes_back_and_only_the_holder_makes_it,
    crate::relays::parked_entries_block_their_key_until_they_are_forgotten as parked_entries_block_their_key_until_they_are_forgotten,
    crate::relays::what_is_discarded_stays_known as what_is_discarded_stays_known,
    crate::relays::a_heartbeat_tells_what_is_new as a_heartbeat_tells_what_is_new,
    crate::releases::a_set_of_releases_is_switched_as_one as a_set_of_releases_is_switched_as_one,
    crate::releases::a_suspension_goes_back_to_the_last_that_was_not_suspended as a_suspension_goes_back_to_the_last_that_was_not_suspended,
    crate::releases::a_trial_is_changed_only_by_who_knows_how_it_stands as a_trial_is_changed_only_by_who_knows_how_it_stands,
    crate::releases::what_is_paused_goes_on_when_somebody_says_so as what_is_paused_goes_on_when_somebody_says_so,
    crate::tokens::a_name_has_one_token_that_counts as a_name_has_one_token_that_counts,
    crate::tokens::a_heartbeat_tells_that_tokens_changed as a_heartbeat_tells_that_tokens_changed,
    crate::tokens::the_use_of_a_token_is_noted_once_a_minute as the_use_of_a_token_is_noted_once_a_minute,
    crate::relays::relays_read_published_entries_only as relays_read_published_entries_only,
    crate::relays::pages_are_bounded_by_their_bytes as pages_are_bounded_by_their_bytes,
    crate::relays::a_parked_entry_keeps_what_its_sink_needs as a_parked_entry_keeps_what_its_sink_needs,
    crate::relays::a_held_topic_is_free_when_nothing_waits_for_it as a_held_topic_is_free_when_nothing_waits_for_it,
}

/// As after a standby took over: the row was replicated, and the server is another.
#[tokio::test]
async fn a_lease_that_was_taken_from_a_former_primary_counts_for_nothing() {
    let opened = Opened::postgres().await;
    let (store, holder) = (&opened.store, Uuid::from_u128(1));
    store.register_sink("kafka", 0).await.expect("an answer");
    let lease = store.acquire_lease("kafka", holder).await.expect("an answer").expect("the lease");
    assert!(store.checkpoint("kafka", lease.epoch, 5, &[]).await.expect("an answer"));
    let mut connection = PgConnection::connect(&opened.settings.url).await.expect("a connection");
    let moved = "UPDATE belfry.relay SET incarnation = '7341/1', lease_until = lease_until - interval '5 s'";
    sqlx::query(moved).execute(&mut connection).await.expect("an answer");

    let beat = store.beat(holder).await.expect("an answer");
    let seen = beat.leases.iter().find(|lease| lease.name == "kafka").expect("the lease");
    assert_eq!(seen.remaining, Duration::ZERO, "it is not renewed");
    assert!(!store.checkpoint("kafka", lease.epoch, 6, &[]).await.expect("an answer"));
    assert!(!store.forget_parked("kafka", lease.epoch, &[6]).await.expect("an answer"));
    let other = store.acquire_lease("kafka", Uuid::from_u128(2)).await.expect("an answer").expect("the lease, at once");
    assert_eq!((other.epoch, other.position), (lease.epoch + 1, 5));
    assert!(store.checkpoint("kafka", other.epoch, 6, &[]).await.expect("an answer"));
}

#[tokio::test]
async fn an_embedded_store_has_one_owner() {
    let opened = Opened::sqlite().await;
    let second = Store::open(&opened.settings).await.map(|_| ());
    assert!(matches!(second, Err(OpenError::Locked(_))), "{second:?}");
    let unknown =
        Store::open(&StoreSettings::new("mysql://user:secret@host/db")).await.map(|_| ()).expect_err("unknown");
    assert!(!unknown.to_string().contains("host"), "the message contains no possible secret: {unknown}");
}
