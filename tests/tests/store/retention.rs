//! Retention: what is retired, and what is kept for which sink.

use std::time::Duration;

use belfry_store::{ForgetSink, KeepFor, Retired, SkipGap};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::{Opened, accepted, now_ms, submission};

/// Retention periods under which everything is old at once.
pub(crate) const NOTHING: KeepFor = KeepFor { log: Duration::ZERO, inbox: Duration::ZERO };
/// Retention periods under which nothing that a test creates is old.
pub(crate) const LONG_TIME: KeepFor = KeepFor { log: LONG, inbox: LONG };
const LONG: Duration = Duration::from_secs(3600);

pub(crate) async fn what_is_old_is_retired_but_not_before_every_known_sink_has_it(opened: Opened) {
    opened.commit((0..12).map(|number| submission(number, vec![])).collect()).await;
    // No replica has these sinks: they are known because they were served once.
    for (sink, position) in [("kafka", 12), ("redis", 4), ("postgres:orders", 0)] {
        opened.store.register_sink(sink, position).await.expect("an answer");
    }
    retire_all(&opened, KeepFor { log: Duration::ZERO, inbox: LONG }).await;
    // PostgreSQL retires ranges of four positions, SQLite single rows.
    assert_eq!(opened.store.log_bounds().await.expect("a query"), (5, 12));
    let redis = opened.store.sink("redis").await.expect("a query").expect("the sink");
    assert_eq!((redis.position, redis.missing), (4, 0));
    assert!(redis.unread_for.is_some_and(|unread| unread < LONG), "{redis:?}");
    assert_eq!(forget(&opened, "redis").await, ForgetSink::Forgotten);
    assert_eq!(forget(&opened, "redis").await, ForgetSink::Unknown);
    assert_eq!(forget(&opened, "postgres:orders").await, ForgetSink::Unknown, "a source is not a sink");
    retire_all(&opened, NOTHING).await;
    let (lowest, highest) = opened.store.log_bounds().await.expect("a query");
    assert_eq!(highest, 12);
    assert!(lowest > 8, "{lowest}");
    // A retired id may be accepted again, at a new position.
    assert_eq!(opened.commit(vec![submission(0, vec![])]).await, [accepted(13, &[])]);
}

pub(crate) async fn what_is_young_stays(opened: Opened) {
    opened.commit((0..12).map(|number| submission(number, vec![])).collect()).await;
    assert_eq!(opened.store.retire(LONG_TIME, now_ms(), 100).await.expect("a retirement"), Retired::default());
}

#[tokio::test]
async fn a_sink_whose_lease_a_replica_holds_is_not_forgotten() {
    let opened = Opened::postgres().await;
    opened.store.register_sink("kafka", 0).await.expect("an answer");
    let lease = opened.store.acquire_lease("kafka", Uuid::from_u128(1)).await.expect("an answer").expect("the lease");
    assert_eq!(forget(&opened, "kafka").await, ForgetSink::Served);
    opened.store.release_lease("kafka", lease.epoch).await.expect("an answer");
    assert_eq!(forget(&opened, "kafka").await, ForgetSink::Forgotten);
}

pub(crate) async fn a_gap_is_known_until_someone_goes_on_behind_it(opened: Opened) {
    opened.commit((0..12).map(|number| submission(number, vec![])).collect()).await;
    retire_all(&opened, NOTHING).await;
    opened.commit(vec![submission(100, vec![])]).await;
    // Like a sink whose entries an earlier version has retired.
    opened.store.register_sink("kafka", 3).await.expect("an answer");
    let missing = opened.store.sink("kafka").await.expect("a query").expect("the sink").missing;
    assert!(missing >= 5, "{missing}");
    let skipped = opened.store.skip_gap("kafka", "test", "why", now_ms()).await.expect("an answer");
    assert_eq!(skipped, SkipGap::Skipped { position: 3 + missing, missing });
    let skipped = opened.store.skip_gap("kafka", "test", "why", now_ms()).await.expect("an answer");
    assert_eq!(skipped, SkipGap::NoGap);
    assert_eq!(opened.store.sink("kafka").await.expect("a query").expect("the sink").position, 3 + missing);
}

/// Old rows are found by an index, even where new rows fill the gaps that old ones left.
#[tokio::test]
async fn old_ids_are_found_without_reading_the_young_ones() {
    let opened = Opened::postgres().await;
    let mut connection = PgConnection::connect(&opened.settings.url).await.expect("a connection");
    // Thirty days of a thousand ids each, in no order on disk.
    let fill = "INSERT INTO belfry.inbox (event_id, content_hash, received_at) \
                SELECT gen_random_uuid(), '\\x00', clock_timestamp() - make_interval(days => n % 30) \
                  FROM generate_series(0, 29999) n";
    sqlx::raw_sql(fill).execute(&mut connection).await.expect("rows");
    sqlx::raw_sql("ANALYZE belfry.inbox; SET enable_seqscan = off").execute(&mut connection).await.expect("statistics");
    let plan: Vec<String> = sqlx::query_scalar(
        "EXPLAIN (ANALYZE, TIMING OFF) SELECT event_id FROM belfry.inbox \
          WHERE received_at < now() - interval '40 days' ORDER BY received_at LIMIT 1000",
    )
    .fetch_all(&mut connection)
    .await
    .expect("a plan");
    let plan = plan.join("\n");
    assert!(plan.contains("inbox_received_at") && !plan.contains("Rows Removed"), "{plan}");
    let keep = KeepFor { log: LONG, inbox: 28 * 24 * LONG + LONG };
    assert_eq!(opened.store.retire(keep, now_ms(), 10_000).await.expect("a retirement").inbox, 1000);
}

async fn forget(opened: &Opened, sink: &str) -> ForgetSink {
    opened.store.forget_sink(sink, "test", "why", now_ms()).await.expect("an answer")
}

pub(crate) async fn retire_all(opened: &Opened, keep: KeepFor) {
    // A row that is not older than the given instant counts as young.
    tokio::time::sleep(Duration::from_millis(5)).await;
    while opened.store.retire(keep, now_ms(), 100).await.expect("a retirement") != Retired::default() {}
}
