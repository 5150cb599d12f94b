//! Notifications with one field that is wrong, or that is right but rarely used.

use belfry_sdk::prelude::*;
use belfry_sdk::{Policy, Throttle, Window};

use crate::Answer;
use crate::answer::well_formed;

const HOUR_MS: i64 = 60 * 60 * 1000;
const YEAR_2100_MS: i64 = 4_102_444_800_000;

/// Two notifications that differ in their payload only, which does not count.
pub(crate) fn same_identity(_: &Context) -> Answer {
    Ok(vec![well_formed(), well_formed().payload(&json!({ "message": "the same again" }))])
}

/// A recipient with a character that texts in databases and C must not have.
pub(crate) fn nul_recipient(_: &Context) -> Answer {
    Ok(vec![Notification { recipient: "teacher\0one".into(), ..well_formed() }])
}

/// Nobody.
pub(crate) fn empty_recipient(_: &Context) -> Answer {
    Ok(vec![Notification { recipient: String::new(), ..well_formed() }])
}

/// A category that no host is configured to know.
pub(crate) fn unknown_category(_: &Context) -> Answer {
    Ok(vec![well_formed().category("cat_pictures")])
}

/// Wants to be held back for an hour, which no host carries out yet.
pub(crate) fn not_before(context: &Context) -> Answer {
    Ok(vec![Notification { not_before: Some(context.occurred_at + HOUR_MS), ..well_formed() }])
}

/// Wants repetition to be treated, which no host carries out yet.
pub(crate) fn policies(_: &Context) -> Answer {
    let key = || "failures".to_owned();
    let policies = vec![
        Policy::UnlessRepeated(Window { key: key(), seconds: 600 }),
        Policy::Throttle(Throttle { key: key(), seconds: 3600, limit: 5 }),
    ];
    Ok(vec![Notification { policies, ..well_formed() }])
}

/// Was stale an hour before it happened.
pub(crate) fn expired(context: &Context) -> Answer {
    Ok(vec![well_formed().expires_at(context.occurred_at - HOUR_MS)])
}

/// Is worth sending until the year 2100.
pub(crate) fn expires_later(_: &Context) -> Answer {
    Ok(vec![well_formed().expires_at(YEAR_2100_MS)])
}

/// The same as a healthy rule's, but urgent.
pub(crate) fn urgent(_: &Context) -> Answer {
    Ok(vec![well_formed().priority(Priority::Immediate)])
}
