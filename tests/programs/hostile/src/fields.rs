//! Notifications with one field that is invalid, or that is valid but rarely used.

use belfry_sdk::prelude::*;
use belfry_sdk::{Policy, Throttle, Window, Withdrawal};

use crate::Answer;
use crate::answer::well_formed;

const HOUR_MS: i64 = 60 * 60 * 1000;
const YEAR_2100_MS: i64 = 4_102_444_800_000;

/// Returns two notifications that differ only in their payload, which is not part of the identity.
pub(crate) fn same_identity(_: &Context) -> Answer {
    Ok(vec![well_formed(), well_formed().payload(&json!({ "message": "the same again" }))].into())
}

/// Returns a recipient with a character that text in databases and C strings must not contain.
pub(crate) fn nul_recipient(_: &Context) -> Answer {
    Ok(vec![Notification { recipient: "teacher\0one".into(), ..well_formed() }].into())
}

/// Returns an empty recipient.
pub(crate) fn empty_recipient(_: &Context) -> Answer {
    Ok(vec![Notification { recipient: String::new(), ..well_formed() }].into())
}

/// Returns a category that no host has in its configuration.
pub(crate) fn unknown_category(_: &Context) -> Answer {
    Ok(vec![well_formed().category("cat_pictures")].into())
}

/// Requests a delay of an hour, which no host implements yet.
pub(crate) fn not_before(context: &Context) -> Answer {
    Ok(vec![Notification { not_before: Some(context.occurred_at + HOUR_MS), ..well_formed() }].into())
}

/// Requests handling of repetition, which no host implements yet.
pub(crate) fn policies(_: &Context) -> Answer {
    let key = || "failures".to_owned();
    let policies = vec![
        Policy::UnlessRepeated(Window { key: key(), seconds: 600 }),
        Policy::Throttle(Throttle { key: key(), seconds: 3600, limit: 5 }),
    ];
    Ok(vec![Notification { policies, ..well_formed() }].into())
}

/// Returns a notification that expired an hour before the event.
pub(crate) fn expired(context: &Context) -> Answer {
    Ok(vec![well_formed().expires_at(context.occurred_at - HOUR_MS)].into())
}

/// Takes back a notification, which this host does not implement.
pub(crate) fn withdraw(_: &Context) -> Answer {
    let withdrawal = Withdrawal {
        recipient: "teacher-anna".into(),
        notification_type: "batch_results_ready".into(),
        thread: "batch:1".into(),
    };
    Ok(belfry_sdk::Answer { notifications: vec![well_formed()], withdrawals: vec![withdrawal] })
}

/// Returns a notification in a thread.
pub(crate) fn threaded(_: &Context) -> Answer {
    Ok(vec![well_formed().thread("batch:1")].into())
}

/// Returns a notification whose thread is too long.
pub(crate) fn long_thread(_: &Context) -> Answer {
    Ok(vec![well_formed().thread("t".repeat(257))].into())
}

/// Returns a notification that expires in the year 2100.
pub(crate) fn expires_later(_: &Context) -> Answer {
    Ok(vec![well_formed().expires_at(YEAR_2100_MS)].into())
}

/// Returns a healthy rule's notification, but urgent.
pub(crate) fn urgent(_: &Context) -> Answer {
    Ok(vec![well_formed().priority(Priority::Immediate)].into())
}
