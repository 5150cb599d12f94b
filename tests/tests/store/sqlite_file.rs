//! Changes to SQLite's file while it is in use.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use belfry_store::{Batch, BatchReceipt, Receipt, StoreError};
use sqlx::{Connection, SqliteConnection};
use tokio::time::timeout;
use uuid::Uuid;

use crate::{Opened, accepted, submission};

fn file(opened: &Opened) -> PathBuf {
    PathBuf::from(opened.settings.url.trim_start_matches("sqlite:"))
}

async fn try_commit(opened: &Opened, number: u128) -> Result<Receipt, StoreError> {
    let receipt = opened.writer.submit(Batch::of(vec![submission(number, vec![])])).await.expect("the writer runs");
    match receipt.await.expect("an answer")? {
        BatchReceipt::Committed(mut receipts) => Ok(receipts.pop().expect("a receipt")),
        BatchReceipt::Fenced => panic!("fenced without a position"),
    }
}

async fn until_it_works(opened: &Opened) {
    let mut failure = opened.writer.failure();
    let works = failure.wait_for(Option::is_none);
    timeout(Duration::from_secs(10), works).await.expect("it works again").expect("the writer runs");
}

#[tokio::test]
async fn a_file_that_was_moved_or_replaced_takes_no_event_until_it_is_back() {
    let opened = Opened::sqlite().await;
    assert_eq!(try_commit(&opened, 1).await, Ok(accepted(1, &[])));
    let (path, aside) = (file(&opened), file(&opened).with_extension("aside"));
    std::fs::rename(&path, &aside).expect("it is moved");
    // It is noticed without an event.
    let mut failure = opened.writer.failure();
    let noticed = timeout(Duration::from_secs(10), failure.wait_for(Option::is_some)).await;
    let reason = noticed.expect("it is noticed").expect("the writer runs").clone().unwrap_or_default();
    assert!(reason.contains("was moved or deleted"), "{reason}");
    let refused = try_commit(&opened, 2).await.expect_err("it is not accepted");
    assert!(refused.to_string().contains("move it back"), "{refused}");

    std::fs::copy(&aside, &path).expect("a backup is restored");
    let refused = try_commit(&opened, 2).await.expect_err("it is not accepted");
    assert!(refused.to_string().contains("was replaced"), "{refused}");

    std::fs::rename(&aside, &path).expect("it is moved back");
    until_it_works(&opened).await;
    assert_eq!(try_commit(&opened, 2).await, Ok(accepted(2, &[])));
    assert!(opened.store.event(Uuid::from_u128(1)).await.expect("a query").is_some());
}

#[tokio::test]
async fn only_its_owner_may_read_the_database() {
    let opened = Opened::sqlite().await;
    opened.commit(vec![submission(1, vec![])]).await;
    for name in ["belfry.db", "belfry.db-wal", "belfry.db-shm", "belfry.db.lock"] {
        let path = file(&opened).with_file_name(name);
        let mode = std::fs::metadata(&path).expect("the file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
}

/// As after a full disk, SQLite has already rolled back when the statement fails. `embedded/full_disk.rs` tests a real
/// one.
#[tokio::test]
async fn after_sqlite_rolled_back_by_itself_the_next_group_is_committed() {
    let opened = Opened::sqlite().await;
    assert_eq!(try_commit(&opened, 1).await, Ok(accepted(1, &[])));
    let mut connection = SqliteConnection::connect(&opened.settings.url).await.expect("a connection");
    let trigger = "CREATE TRIGGER full BEFORE INSERT ON outbox BEGIN SELECT raise(ROLLBACK, 'full'); END";
    sqlx::raw_sql(trigger).execute(&mut connection).await.expect("a trigger");
    for number in 2..5 {
        assert!(!matches!(try_commit(&opened, number).await, Ok(Receipt::Accepted { .. })));
    }
    sqlx::raw_sql("DROP TRIGGER full").execute(&mut connection).await.expect("no trigger");
    assert_eq!(try_commit(&opened, 2).await, Ok(accepted(2, &[])));
}
