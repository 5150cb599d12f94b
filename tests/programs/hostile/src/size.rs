//! Long answers: some are legitimate, most exceed every limit.

use belfry_sdk::prelude::*;

use crate::Answer;
use crate::answer::{well_formed, with_payload_text};
use crate::payload::object_of_bytes;

/// Returns ten notifications instead of one.
pub(crate) fn ten(_: &Context) -> Answer {
    Ok((1..=10).map(|number| well_formed().key(format!("{number}"))).collect())
}

/// Returns a legitimate answer: one notification for each of 400 essays, 2.5 KB each.
pub(crate) fn many(_: &Context) -> Answer {
    Ok((1..=400).map(|essay| with_payload_text(object_of_bytes(2500)).key(format!("essay-{essay}"))).collect())
}

/// Returns 10 MB in payloads that are small enough individually. That is less than the memory limit of rules, and is
/// written well within their time limit, so only a limit on answers stops it.
pub(crate) fn huge_result(_: &Context) -> Answer {
    Ok((1..=400).map(|essay| with_payload_text(object_of_bytes(25_000)).key(format!("essay-{essay}"))).collect())
}

/// Returns one payload of 100 MB. If the guest may not have that much memory, it aborts while writing it.
pub(crate) fn huge_memory_result(_: &Context) -> Answer {
    Ok(vec![with_payload_text(object_of_bytes(100_000_000))].into())
}

/// Returns 40,000 notifications, not a million. A notification takes 128 bytes in the contract's form, and 152 in
/// Rust's, which is kept until the answer is written: 100,000 would just fit into 32 MiB, but could not be written
/// within a rule's 50 ms. Their texts are empty, so none is valid either; a host that counts first reports that there
/// are too many.
pub(crate) fn million_notifications(_: &Context) -> Answer {
    Ok(vec![Notification { payload: String::new(), ..Notification::to("") }; 40_000].into())
}
