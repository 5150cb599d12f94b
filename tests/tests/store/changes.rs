//! The audit log: a change and its entry are committed together, once, and the entry is permanent.

use belfry_store::{
    Change, ChangeFilter, DeadLetterFilter, NewChange, NewParkedRequest, NewToken, ParkedFilter, ParkedRequest, Paused,
    SourcePartition, SourcePosition,
};
use sqlx::{Connection, PgConnection, SqliteConnection};

use crate::{Opened, tokens};

async fn changes(opened: &Opened, filter: &ChangeFilter) -> Vec<Change> {
    opened.store.changes(filter, i64::MAX, 100).await.expect("a query")
}

fn short(change: &Change) -> String {
    format!("{} {} {}", change.by, change.action, change.subject)
}

fn annas_token() -> NewToken {
    NewToken { created_by: "anna".into(), ..tokens::new("ci", 1) }
}

async fn some_changes(opened: &Opened) {
    let store = &opened.store;
    let token = annas_token();
    store.add_token(&token, 1_000).await.expect("an answer").expect("a token");
    assert_eq!(store.add_token(&token, 1_500).await.expect("an answer"), None);
    store.revoke_token("ci", "bert", 2_000).await.expect("an answer");
    store.revoke_token("ci", "bert", 2_500).await.expect("an answer");
    let sink = Paused::Sink("kafka".into());
    store.pause(&sink, Some("it is mended"), "anna", 3_000).await.expect("a pause");
    store.pause(&sink, None, "bert", 4_000).await.expect("an end");
    store.pause(&Paused::Notifications, Some("a drill"), "bert", 5_000).await.expect("a mute");
    let discard = NewParkedRequest { request: ParkedRequest::Discard, by: "anna", reason: Some("too large") };
    let key = ParkedFilter { event_key: Some("teacher-7".into()), ..ParkedFilter::default() };
    store.request_parked(&key, &discard, 6_000).await.expect("an answer");
    let all = DeadLetterFilter::default();
    store.discard_dead_letters(&all, "anna", "old", 7_000).await.expect("an answer");
    let partition = SourcePartition { group: "g".into(), topic: "t".into(), partition: 3 };
    let position = |next| SourcePosition { partition: partition.clone(), next, topic_id: None };
    store.set_source_position(&position(8), "direct:carl", 8_000).await.expect("a position");
    store.set_source_position(&position(9), "direct:carl", 9_000).await.expect("a position");
    let topic = NewChange::topic("t", "partitions", "1", "4", "direct:carl");
    store.note_change(&topic, 10_000).await.expect("a note");
}

pub(crate) async fn a_change_is_noted_with_it(opened: Opened) {
    some_changes(&opened).await;
    let noted = changes(&opened, &ChangeFilter::default()).await;
    assert_eq!(
        noted.iter().rev().map(short).collect::<Vec<_>>(),
        [
            "anna token.create ci",
            "bert token.revoke ci",
            "anna pause.begin sink kafka",
            "bert pause.end sink kafka",
            "bert pause.begin notifications",
            "anna parked.discard every sink",
            "anna dead-letter.discard every projector",
            "direct:carl position.set t/3",
            "direct:carl position.set t/3",
            "direct:carl topic.apply t",
        ]
    );
    assert_eq!(noted[1].detail, r#"{"group":"g","was":8,"is":9}"#);
    assert!(
        noted.iter().all(|change| !change.detail.contains("teacher-7")),
        "it is kept permanently, so without anyone's id"
    );
    assert_eq!(noted[9].at_ms, 1_000);
}

pub(crate) async fn changes_are_found(opened: Opened) {
    some_changes(&opened).await;
    let found = async |filter| changes(&opened, &filter).await.iter().map(short).collect::<Vec<_>>();
    let by_bert = ChangeFilter { by: Some("bert".into()), ..ChangeFilter::default() };
    assert_eq!(found(by_bert).await.len(), 3);
    let of_a_kind = ChangeFilter { action: Some("pause".into()), since_ms: Some(4_000), ..ChangeFilter::default() };
    assert_eq!(found(of_a_kind).await, ["bert pause.begin notifications", "bert pause.end sink kafka"]);
    let one = ChangeFilter { action: Some("pause.end".into()), ..ChangeFilter::default() };
    assert_eq!(found(one).await, ["bert pause.end sink kafka"]);
    let no_kind = ChangeFilter { action: Some("pau".into()), ..ChangeFilter::default() };
    assert!(found(no_kind).await.is_empty());
    let of_one = ChangeFilter { subject: Some("ci".into()), ..ChangeFilter::default() };
    assert_eq!(found(of_one).await, ["bert token.revoke ci", "anna token.create ci"]);
    let first = opened.store.changes(&ChangeFilter::default(), i64::MAX, 4).await.expect("a query");
    let before = first.last().expect("four").id;
    let rest = opened.store.changes(&ChangeFilter::default(), before, 100).await.expect("a query");
    assert_eq!((first.len(), rest.len()), (4, 6));
    assert!(rest[0].id < before);
}

/// Runs statements outside of the store, on PostgreSQL as the owner, who has all privileges. Returns the errors.
async fn refused(opened: &Opened, statements: &[&'static str]) -> Vec<String> {
    let mut refused = Vec::new();
    for statement in statements {
        let done = match opened.settings.url.strip_prefix("sqlite:") {
            Some(path) => {
                let mut connection = SqliteConnection::connect(path).await.expect("a connection");
                sqlx::query(*statement).execute(&mut connection).await.map(drop)
            }
            None => {
                let mut connection = PgConnection::connect(&opened.settings.url).await.expect("a connection");
                sqlx::query(*statement).execute(&mut connection).await.map(drop)
            }
        };
        refused.extend(done.err().map(|error| error.to_string()));
    }
    refused
}

pub(crate) async fn the_audit_log_is_only_appended_to(opened: Opened) {
    some_changes(&opened).await;
    let statements: &[&str] = match opened.settings.url.starts_with("sqlite:") {
        true => &[
            "UPDATE audit_log SET changed_by = 'nobody'",
            "DELETE FROM audit_log WHERE id = 1",
            "INSERT OR REPLACE INTO audit_log VALUES (1, 0, 'nobody', 'nothing', 'nobody', '{}')",
        ],
        false => &[
            "UPDATE belfry.audit_log SET changed_by = 'nobody'",
            "DELETE FROM belfry.audit_log WHERE id = 1",
            "TRUNCATE belfry.audit_log",
        ],
    };
    let refused = refused(&opened, statements).await;
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert!(refused.iter().all(|refusal| refusal.contains("only ever appended to")), "{refused:?}");
    let kept = changes(&opened, &ChangeFilter::default()).await;
    assert!(kept.len() == 10 && kept[9].by == "anna", "{kept:?}");
}

pub(crate) async fn what_cannot_be_noted_is_not_done(opened: Opened) {
    let broken: &[&str] = match opened.settings.url.starts_with("sqlite:") {
        true => &["CREATE TRIGGER broken BEFORE INSERT ON audit_log BEGIN SELECT raise(ABORT, 'broken'); END"],
        false => &["ALTER TABLE belfry.audit_log ADD CONSTRAINT broken CHECK (changed_by = '')"],
    };
    assert_eq!(refused(&opened, broken).await, Vec::<String>::new());
    let store = &opened.store;
    let token = annas_token();
    store.add_token(&token, 1_000).await.expect_err("not recorded");
    store.pause(&Paused::Notifications, Some("a drill"), "anna", 1_000).await.expect_err("not recorded");
    let partition = SourcePartition { group: "g".into(), topic: "t".into(), partition: 3 };
    let position = SourcePosition { partition, next: 8, topic_id: None };
    store.set_source_position(&position, "direct:carl", 1_000).await.expect_err("not recorded");
    assert_eq!(store.tokens().await.expect("a query"), []);
    assert_eq!(store.pauses().await.expect("a query"), []);
    assert_eq!(store.source_positions("g", None).await.expect("a query"), []);
}
