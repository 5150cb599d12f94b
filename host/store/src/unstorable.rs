//! Handles a batch that a working database refuses: a value is at fault, and only the event or the notifications with
//! that value may be affected.
//!
//! The batch's events are committed one by one. An event that is refused even alone is tried first without
//! notifications, then with those of each release: a release whose notifications are at fault leaves a dead letter, as
//! if it had failed. If the event itself is at fault, the event becomes the dead letter.

use belfry_model::Outcome;
use bytes::Bytes;
use serde_json::Value;

use crate::{
    Advance, Batch, BatchReceipt, NewDeadLetter, NewNotification, Receipt, Store, StoreError, Submission, UNSTORABLE,
    Unreadable,
};

/// Commits a batch that was refused as part of a group. The source's position moves with the last commit; until then,
/// each commit checks that it is still where the reader expects it.
pub(crate) async fn commit_apart(store: &Store, batch: Batch, now_ms: i64) -> Result<BatchReceipt, StoreError> {
    let Batch { submissions, mut unreadable, advance } = batch;
    let check = advance.as_ref().map(|Advance { partition, expected, .. }| Advance {
        partition: partition.clone(),
        expected: *expected,
        next: *expected,
    });
    let mut receipts = Vec::with_capacity(submissions.len());
    for submission in submissions {
        let origin = submission.origin.clone();
        let (event_id, payload) = (submission.event.event_id, submission.event.payload.clone());
        match commit_one(store, submission, check.clone(), now_ms).await? {
            One::Committed(receipt) => receipts.push(receipt),
            One::Fenced => return Ok(BatchReceipt::Fenced),
            One::Refused(reason) => {
                if let Some(origin) = origin {
                    unreadable.push(Unreadable::unstorable(&origin, event_id, reason.clone(), payload));
                }
                receipts.push(Receipt::Unstorable(reason));
            }
        }
    }
    let rest = Batch { submissions: Vec::new(), unreadable, advance };
    match store.commit(&[rest], now_ms).await?.pop() {
        Some(BatchReceipt::Committed(_)) => Ok(BatchReceipt::Committed(receipts)),
        _ => Ok(BatchReceipt::Fenced),
    }
}

enum One {
    Committed(Receipt),
    Fenced,
    Refused(String),
}

async fn commit_one(
    store: &Store,
    submission: Submission,
    check: Option<Advance>,
    now_ms: i64,
) -> Result<One, StoreError> {
    let commit = async |submission: Submission| {
        let batch = Batch { submissions: vec![submission], unreadable: Vec::new(), advance: check.clone() };
        match store.commit(&[batch], now_ms).await {
            Ok(mut receipts) => match receipts.pop() {
                Some(BatchReceipt::Committed(mut of_one)) => {
                    Ok(One::Committed(of_one.pop().expect("a receipt for each submission")))
                }
                _ => Ok(One::Fenced),
            },
            Err(StoreError::Refused(reason)) => Ok(One::Refused(reason)),
            Err(error) => Err(error),
        }
    };
    let whole = commit(submission.clone()).await?;
    if !matches!(whole, One::Refused(_)) {
        return Ok(whole);
    }
    // If no release is at fault, either the event is refused again, or the cause of the refusal has passed.
    let blamed = releases_to_blame(store, &submission, now_ms).await?;
    Ok(match commit(without(&submission, &blamed)).await? {
        One::Committed(receipt) => One::Committed(with_places_of(receipt, &submission.notifications, &blamed)),
        other => other,
    })
}

/// A release whose notifications the database refuses, and why.
type Blamed = (i64, String);

/// Returns the releases whose notifications the database refuses, if it accepts the event itself. Empty if it refuses
/// the event.
async fn releases_to_blame(store: &Store, submission: &Submission, now_ms: i64) -> Result<Vec<Blamed>, StoreError> {
    let alone = |release_id: Option<i64>| {
        let of_release = |one: &&NewNotification| Some(one.release_id) == release_id;
        let notifications = submission.notifications.iter().filter(of_release).cloned().collect();
        Submission { notifications, dead_letters: Vec::new(), ..submission.clone() }
    };
    let mut blamed = Vec::new();
    match store.try_out(&alone(None), now_ms).await {
        Ok(()) => {}
        Err(StoreError::Refused(_)) => return Ok(blamed),
        Err(error) => return Err(error),
    }
    for release_id in releases(&submission.notifications) {
        match store.try_out(&alone(Some(release_id)), now_ms).await {
            Ok(()) => {}
            Err(StoreError::Refused(reason)) => blamed.push((release_id, reason)),
            Err(error) => return Err(error),
        }
    }
    Ok(blamed)
}

/// Returns the releases of notifications, each once, in the order of the notifications.
fn releases(notifications: &[NewNotification]) -> Vec<i64> {
    let mut releases: Vec<i64> = notifications.iter().map(|one| one.release_id).collect();
    releases.dedup();
    releases
}

/// Returns the event without the notifications of these releases, each of which leaves a dead letter instead.
fn without(submission: &Submission, blamed: &[Blamed]) -> Submission {
    let mut kept = submission.clone();
    let mut projections: Vec<Value> = serde_json::from_slice(&kept.event.projections).unwrap_or_default();
    for (release_id, reason) in blamed {
        kept.notifications.retain(|one| one.release_id != *release_id);
        let record = projections.iter_mut().find(|record| record["release_id"] == *release_id);
        let projector = record.map_or_else(String::new, |record| {
            record["outcome"] = Outcome::Unstorable.as_str().into();
            record["count"] = 0.into();
            record["projector"].as_str().unwrap_or_default().to_owned()
        });
        let detail = format!("the database refuses its notifications: {reason}");
        kept.dead_letters.push(NewDeadLetter { projector, release_id: *release_id, cause: UNSTORABLE, detail });
    }
    if !blamed.is_empty() {
        kept.event.projections = Bytes::from(serde_json::to_vec(&projections).unwrap_or_default());
    }
    kept
}

/// Returns the receipt of the whole event, which also covers the notifications that were left out.
fn with_places_of(receipt: Receipt, notifications: &[NewNotification], blamed: &[Blamed]) -> Receipt {
    let Receipt::Accepted { position, notifications: placed, dead_letters } = receipt else { return receipt };
    let mut placed = placed.into_iter();
    let is_blamed = |one: &NewNotification| blamed.iter().any(|(release_id, _)| *release_id == one.release_id);
    let place = |one: &NewNotification| match is_blamed(one) {
        true => Err(UNSTORABLE),
        false => placed.next().expect("a place for each notification that was committed"),
    };
    Receipt::Accepted { position, notifications: notifications.iter().map(place).collect(), dead_letters }
}
