//! Releases, who vouches for them, and which of them serve.

use belfry_store::{AddRelease, Added, ComponentSignature, NewRelease, Release};
use bytes::Bytes;

use crate::Opened;

fn new(digest: u8, config: &str) -> NewRelease {
    NewRelease {
        projector: "p".into(),
        version: "1.0.0".into(),
        digest: [digest; 32],
        component: Bytes::from_static(b"component"),
        config: config.into(),
        description: "{}".into(),
        note: String::new(),
        created_by: "test".into(),
        admission: format!("{{\"digest\":{digest}}}"),
        signature: None,
    }
}

async fn add(opened: &Opened, new: &NewRelease) -> (Added, Release) {
    match opened.store.add_release(new, 0).await.expect("an answer") {
        AddRelease::There(added, release) => (added, release),
        AddRelease::OtherDigest(_) => panic!("the version is taken"),
    }
}

pub(crate) async fn a_version_names_one_component(opened: Opened) {
    let (added, first) = add(&opened, &new(1, "{}")).await;
    assert_eq!((added, first.admission.as_deref()), (Added::New, Some("{\"digest\":1}")));
    let (added, same) = add(&opened, &new(1, "{}")).await;
    assert_eq!((added, &same), (Added::Existing, &first));
    let (added, other) = add(&opened, &new(1, r#"{"a":1}"#)).await;
    assert!(added == Added::New && other.id != first.id);
    let refused = opened.store.add_release(&new(2, "{}"), 0).await.expect("an answer");
    assert_eq!(refused, AddRelease::OtherDigest([1; 32]));
}

pub(crate) async fn the_release_before_is_known(opened: Opened) {
    let (_, first) = add(&opened, &new(1, "1")).await;
    let (_, second) = add(&opened, &new(1, "2")).await;
    for release in [&first, &second] {
        opened.store.activate(release, "test", 0).await.expect("an activation");
    }
    let rollouts = opened.store.rollouts().await.expect("a query");
    assert_eq!((rollouts[0].release_id, rollouts[0].previous_release_id), (second.id, Some(first.id)));
}

pub(crate) async fn a_component_may_be_vouched_for_later_and_by_several(opened: Opened) {
    let signature =
        |key: u8| ComponentSignature { public_key: [key; 32], signature: [key; 64], signer: format!("key {key}") };
    add(&opened, &new(1, "{}")).await;
    assert_eq!(opened.store.component_signatures().await.expect("a query"), []);
    for key in [7, 8, 7] {
        let (added, _) = add(&opened, &NewRelease { signature: Some(signature(key)), ..new(1, "{}") }).await;
        assert_eq!(added, Added::Existing);
    }
    let mut kept = opened.store.component_signatures().await.expect("a query");
    kept.sort_by_key(|(_, signature)| signature.public_key);
    assert_eq!(kept, [([1; 32], signature(7)), ([1; 32], signature(8))]);
}
