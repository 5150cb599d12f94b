//! The answer to a commit is lost: only the log shows whether the transaction took effect.

use std::time::Duration;

use belfry_store::{Batch, BatchReceipt, Store, StoreSettings, Writer, WriterSettings};
use belfry_tests::servers::{FaultProxy, shared_postgres};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{accepted, notification, submission};

const ORDER_LOCK: &str = "SELECT pg_advisory_xact_lock(7341, 'belfry.outbox'::regclass::oid::int)";

/// The server commits, and then loses the transaction, like a server that crashes before it flushes: the transaction id
/// has the status "committed", and the rows are missing.
#[tokio::test]
async fn a_commit_that_the_server_lost_is_repeated_and_not_acknowledged_unseen() {
    let server = shared_postgres().await.expect("a server");
    let database = server.create_database().await.expect("a database");
    let proxy = FaultProxy::start(server.port()).await.expect("a proxy");
    let through = database.url.replace(&format!(":{}", server.port()), &format!(":{}", proxy.port()));
    let store = Store::open(&StoreSettings::new(&through)).await.expect("a store");
    let settings = WriterSettings { group_entries: 500, group_wait: Duration::from_millis(1), queue: 16 };
    let writer = Writer::start(store.clone(), settings, watch::Sender::new(0));
    let mut holder = PgConnection::connect(&database.url).await.expect("a connection");
    let mut crash = PgConnection::connect(&database.url).await.expect("a connection");

    // The group waits for the lock, and the transaction that undoes it waits behind it.
    sqlx::raw_sql(AssertSqlSafe(format!("BEGIN; {ORDER_LOCK}"))).execute(&mut holder).await.expect("the lock");
    proxy.cut_before_answer_with(b"COMMIT", b"COMMIT");
    let batch = Batch::of(vec![submission(1, vec![notification(11)])]);
    let pending = writer.submit(batch).await.expect("the writer runs");
    waiting(&database.url, 1).await;
    let undo = tokio::spawn(async move {
        let undo = format!(
            "BEGIN; {ORDER_LOCK}; DELETE FROM belfry.outbox; DELETE FROM belfry.inbox; DELETE FROM belfry.issued; COMMIT"
        );
        sqlx::raw_sql(AssertSqlSafe(undo)).execute(&mut crash).await
    });
    waiting(&database.url, 2).await;
    sqlx::raw_sql("COMMIT").execute(&mut holder).await.expect("the end");
    undo.await.expect("a task").expect("the log is as before the commit");
    proxy.wait_until_tripped(1, Duration::from_secs(10)).await.expect("the answer was lost");

    let receipt = pending.await.expect("an answer").expect("a commit");
    let BatchReceipt::Committed(receipts) = receipt else { panic!("fenced without a position") };
    assert_eq!(receipts, [accepted(3, &[Ok(4)])], "it is committed again, and new to the sender");
    let history = store.event(Uuid::from_u128(1)).await.expect("a query").expect("the event is in the log");
    assert_eq!((history.event.position, history.notifications.len()), (3, 1));
}

/// Waits until `sessions` sessions wait for the order lock.
async fn waiting(url: &str, sessions: i64) {
    let mut connection = PgConnection::connect(url).await.expect("a connection");
    for _ in 0..200 {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 7341 AND NOT granted \
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .fetch_one(&mut connection)
        .await
        .expect("an answer");
        if waiting == sessions {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the sessions do not wait for the order lock");
}
