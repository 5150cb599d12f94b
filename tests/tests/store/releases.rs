//! Releases, their signatures, and which of them serve.

use belfry_store::{AddRelease, Added, Candidate, ComponentSignature, NewRelease, Paused, Release, TrialChange};
use bytes::Bytes;
use uuid::Uuid;

use crate::{Opened, now_ms};

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
        opened.store.activate(&[release], "test", 0).await.expect("an activation");
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

pub(crate) async fn a_set_of_releases_is_switched_as_one(opened: Opened) {
    let (_, first) = add(&opened, &new(1, "1")).await;
    let (_, other) = add(&opened, &NewRelease { projector: "q".into(), ..new(1, "1") }).await;
    let before = beat(&opened).await;
    opened.store.activate(&[&first, &other], "test", 0).await.expect("an activation");
    assert_ne!(beat(&opened).await, before);
    let gone = Release { id: 999, ..first.clone() };
    opened.store.activate(&[&other, &gone], "test", 1).await.expect_err("there is no such release");
    let rollouts = opened.store.rollouts().await.expect("a query");
    let serving: Vec<_> = rollouts.iter().map(|rollout| (rollout.release_id, rollout.created_at_ms)).collect();
    assert_eq!(serving, [(first.id, 0), (other.id, 0)], "nothing of the second change took effect");
}

async fn beat(opened: &Opened) -> (i64, i64) {
    opened.store.beat(uuid::Uuid::nil()).await.expect("a heartbeat").changes()
}

pub(crate) async fn a_suspension_goes_back_to_the_last_that_was_not_suspended(opened: Opened) {
    let mut releases = Vec::new();
    for config in ["1", "2", "3"] {
        let (_, release) = add(&opened, &new(1, config)).await;
        opened.store.activate(&[&release], "test", 0).await.expect("an activation");
        releases.push(release);
    }
    let serving = async || {
        let rollout = opened.store.rollouts().await.expect("a query").remove(0);
        (rollout.release_id, rollout.suspended_release_id, rollout.previous_release_id)
    };
    let suspend = async |release: &Release| opened.store.suspend(release, "it failed", 0).await.expect("an answer");
    let [first, second, third] = &releases[..] else { panic!("three releases") };
    assert!(!suspend(second).await, "it does not serve");
    assert!(suspend(third).await);
    assert!(!suspend(third).await, "another replica was first");
    assert_eq!(serving().await, (second.id, Some(third.id), Some(first.id)));
    assert!(suspend(second).await);
    assert_eq!(serving().await, (first.id, Some(second.id), None));
    assert!(suspend(first).await, "there is no release to go back to");
    assert_eq!(serving().await, (first.id, Some(first.id), None));
    assert!(!suspend(first).await, "it is suspended already");
    // An operator activates one of them again.
    opened.store.activate(&[third], "test", 0).await.expect("an activation");
    assert_eq!(serving().await, (third.id, None, None));
}

pub(crate) async fn what_is_paused_goes_on_when_somebody_says_so(opened: Opened) {
    let store = &opened.store;
    let rule = Paused::Projector("p".into());
    let sink = Paused::Sink("stdout".into());
    store.register_sink("stdout", 0).await.expect("a sink");
    let before = beat(&opened).await;
    for (what, reason) in [(&rule, "it is wrong"), (&sink, "it is away"), (&Paused::Notifications, "holidays")] {
        store.pause(what, Some(reason), "anna", 7).await.expect("a pause");
    }
    assert_ne!(beat(&opened).await, before);
    let pauses = store.pauses().await.expect("a query");
    assert_eq!(
        pauses.iter().map(|pause| pause.reason.as_str()).collect::<Vec<_>>(),
        ["holidays", "it is wrong", "it is away"]
    );
    assert_eq!((&pauses[1].what, pauses[1].created_by.as_str(), pauses[1].created_at_ms), (&rule, "anna", 7));
    let paused = async || store.beat(uuid::Uuid::nil()).await.expect("a heartbeat").leases[0].paused;
    assert!(paused().await);
    store.pause(&sink, None, "anna", 8).await.expect("an end");
    assert!(!paused().await);
    let left = store.pauses().await.expect("a query");
    assert!(left.len() == 2 && left.iter().all(|pause| pause.what != sink), "{left:?}");
}

pub(crate) async fn a_trial_is_changed_only_by_who_knows_how_it_stands(opened: Opened) {
    let store = &opened.store;
    let (_, serving) = add(&opened, &new(1, "1")).await;
    let (_, tried) = add(&opened, &new(1, "2")).await;
    store.activate(&[&serving], "test", 0).await.expect("an activation");
    assert!(store.trial("p").await.expect("a query").is_none());
    let first = store.rollouts().await.expect("a query").remove(0);
    let shadow = Candidate { release_id: tried.id, share: None, plan: None, step: None };
    let begin = TrialChange {
        projector: "p",
        after: first.id,
        release_id: serving.id,
        candidate: Some(&shadow),
        suspended_release_id: None,
        reason: None,
        created_by: "test",
        action: "trial.shadow",
    };
    assert!(store.change_trial(&begin, 1).await.expect("a change"));
    assert!(!store.change_trial(&begin, 2).await.expect("an answer"), "the rollout has changed since");
    let begun = store.rollouts().await.expect("a query").remove(0);
    assert_eq!((begun.release_id, begun.candidate.as_ref()), (serving.id, Some(&shadow)));
    let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    for (replica, tally) in [(one, "early"), (one, "late"), (other, "elsewhere")] {
        store.keep_tally(begun.id, replica, tally, 3).await.expect("it is kept");
    }
    let shadowed = store.trial("p").await.expect("a query").expect("a trial");
    let mut tallies = shadowed.steps[0].tallies.clone();
    tallies.sort();
    assert_eq!((tallies, shadowed.end), (vec!["elsewhere".to_owned(), "late".to_owned()], None));
    // A candidate's tallies quote events, so they are kept for a week only.
    store.keep_tally(begun.id, other, "today's", now_ms()).await.expect("it is kept");
    store.retire(crate::retention::LONG_TIME, now_ms(), 100).await.expect("a retirement");
    assert_eq!(store.trial("p").await.expect("a query").expect("a trial").steps[0].tallies, ["today's"]);
    let plan = Some("{}".to_owned());
    let canary = Candidate { release_id: tried.id, share: Some(100), plan, step: Some(0) };
    let grow = TrialChange { after: begun.id, candidate: Some(&canary), ..begin.clone() };
    assert!(store.change_trial(&grow, 4).await.expect("a change"));
    let grown = store.rollouts().await.expect("a query").remove(0);
    let suspended_release_id = Some(tried.id);
    let end = TrialChange { after: grown.id, candidate: None, suspended_release_id, reason: Some("why"), ..begin };
    assert!(store.change_trial(&end, 5).await.expect("a change"));
    store.activate(&[&serving], "test", 6).await.expect("an activation");
    let trial = store.trial("p").await.expect("a query").expect("a trial");
    assert_eq!(trial.steps.len(), 1, "the earlier shadow is another trial");
    assert_eq!(trial.steps[0].rollout.candidate.as_ref(), Some(&canary));
    let ended = trial.end.expect("an end");
    assert_eq!((ended.reason.as_deref(), ended.suspended_release_id), (Some("why"), Some(tried.id)));
    let now = store.rollouts().await.expect("a query").remove(0);
    assert_eq!(
        (now.candidate, now.previous_release_id),
        (None, None),
        "a release that was only tried cannot be rolled back to"
    );
}
