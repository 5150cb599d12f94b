//! The tokens of the API.

use belfry_store::{NewToken, Token};

use crate::Opened;

pub(crate) fn new(name: &str, hash: u8) -> NewToken {
    NewToken {
        name: name.into(),
        role: "viewer".into(),
        sha256: [hash; 32],
        created_by: "test".into(),
        expires_at_ms: Some(9_000),
    }
}

async fn only(opened: &Opened) -> Token {
    opened.store.tokens().await.expect("a query").pop().expect("a token")
}

async fn changes(opened: &Opened) -> i64 {
    opened.store.beat(uuid::Uuid::nil()).await.expect("a heartbeat").access
}

pub(crate) async fn a_name_has_one_token_that_counts(opened: Opened) {
    let store = &opened.store;
    let first = store.add_token(&new("ci", 1), 1_000).await.expect("an answer").expect("a token");
    assert_eq!((first.expires_at_ms, first.created_at_ms, &first.revoked_at_ms), (Some(9_000), 1_000, &None));
    assert_eq!(store.add_token(&new("ci", 2), 1_000).await.expect("an answer"), None);
    assert!(store.revoke_token("ci", "anna", 2_000).await.expect("an answer"));
    assert!(!store.revoke_token("ci", "anna", 3_000).await.expect("an answer"), "it is no longer valid");
    let revoked = only(&opened).await;
    assert_eq!((revoked.revoked_at_ms, revoked.revoked_by.as_deref()), (Some(2_000), Some("anna")));
    let second = store.add_token(&new("ci", 2), 4_000).await.expect("an answer").expect("the name is free again");
    assert_ne!(second.id, first.id);
}

pub(crate) async fn a_heartbeat_tells_that_tokens_changed(opened: Opened) {
    let mut seen = vec![changes(&opened).await];
    opened.store.add_token(&new("ci", 1), 1_000).await.expect("an answer").expect("a token");
    seen.push(changes(&opened).await);
    opened.store.revoke_token("ci", "anna", 2_000).await.expect("an answer");
    seen.push(changes(&opened).await);
    opened.store.add_token(&new("ci", 2), 3_000).await.expect("an answer").expect("a token");
    seen.push(changes(&opened).await);
    assert!(seen.is_sorted_by(|before, after| before < after), "{seen:?}");
}

pub(crate) async fn the_use_of_a_token_is_noted_once_a_minute(opened: Opened) {
    let token = opened.store.add_token(&new("ci", 1), 1_000).await.expect("an answer").expect("a token");
    for (at_ms, noted, last) in [(100_000, true, 100_000), (159_999, false, 100_000), (160_000, true, 160_000)] {
        assert_eq!(opened.store.note_token_used(token.id, at_ms).await.expect("an answer"), noted, "{at_ms}");
        assert_eq!(only(&opened).await.last_used_at_ms, Some(last), "{at_ms}");
    }
}
