//! Databases with the schema from before releases had reports.

use std::path::Path;

use belfry_store::{Release, Rollout, Store, StoreSettings};
use belfry_tests::servers::shared_postgres;
use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection, SqliteConnection};
use tempfile::TempDir;

/// Version of the last migration of that schema.
const BEFORE: i64 = 2;

/// Returns the migrations of that schema.
async fn earlier(folder: &str) -> Migrator {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations").join(folder);
    let all = Migrator::new(path).await.expect("migrations");
    Migrator::with_migrations(all.iter().filter(|migration| migration.version <= BEFORE).cloned().collect())
}

async fn what_was_there(store: &Store) -> (Vec<Release>, Vec<Rollout>) {
    (store.releases(None).await.expect("a query"), store.rollouts().await.expect("a query"))
}

/// Checks that data of the earlier version is still there, and that new features work with it.
async fn goes_on(settings: &StoreSettings) {
    let store = Store::open(settings).await.expect("a store that is upgraded");
    let (releases, rollouts) = what_was_there(&store).await;
    assert_eq!((releases[0].created_by.as_str(), releases[0].admission.as_deref()), ("anna", None));
    assert_eq!((rollouts[0].release_id, rollouts[0].suspended_release_id), (releases[0].id, None));
    assert!(store.suspend(&releases[0], "it failed", 1).await.expect("an answer"));
    assert_eq!(store.tokens().await.expect("a query"), []);
    store.close().await;
}

#[tokio::test]
async fn an_embedded_store_of_the_version_before_goes_on() {
    let directory = TempDir::new().expect("a temporary directory");
    let url = format!("sqlite:{}", directory.path().join("belfry.db").display());
    let mut connection = SqliteConnection::connect(&format!("{url}?mode=rwc")).await.expect("a database");
    earlier("sqlite").await.run(&mut connection).await.expect("the earlier schema");
    sqlx::raw_sql(
        "INSERT INTO component VALUES (zeroblob(32), x'00', 0);
         INSERT INTO release VALUES (1, 'p', '1.0.0', zeroblob(32), '{}', '{}', '', 'anna', 0);
         INSERT INTO rollout VALUES (1, 'p', 1, 'anna', 0)",
    )
    .execute(&mut connection)
    .await
    .expect("rows of the earlier version");
    connection.close().await.expect("an end");
    goes_on(&StoreSettings::new(url)).await;
}

#[tokio::test]
async fn a_server_s_store_of_the_version_before_goes_on() {
    let server = shared_postgres().await.expect("a PostgreSQL server");
    let database = server.create_database().await.expect("a database");
    let mut connection = PgConnection::connect(&database.url).await.expect("a connection");
    let mut migrator = earlier("postgres/belfry").await;
    migrator.create_schema("belfry");
    migrator.dangerous_set_table_name("belfry._sqlx_migrations");
    migrator.run(&mut connection).await.expect("the earlier schema");
    sqlx::raw_sql(
        "INSERT INTO belfry.component VALUES (decode(repeat('00', 32), 'hex'), '', now());
         INSERT INTO belfry.release (projector, version, digest, config, description, note, created_by)
           VALUES ('p', '1.0.0', decode(repeat('00', 32), 'hex'), '{}', '{}', '', 'anna');
         INSERT INTO belfry.rollout (projector, release_id, created_by) SELECT projector, id, 'anna' FROM belfry.release",
    )
    .execute(&mut connection)
    .await
    .expect("rows of the earlier version");
    connection.close().await.expect("an end");
    goes_on(&StoreSettings::new(database.url.clone())).await;
}
