//! Answers that are long: some legitimately, most beyond every limit.

use belfry_sdk::prelude::*;

use crate::Answer;
use crate::answer::{well_formed, with_payload_text};
use crate::payload::object_of_bytes;

/// Ten where others have one.
pub(crate) fn ten(_: &Context) -> Answer {
    Ok((1..=10).map(|number| well_formed().key(format!("{number}"))).collect())
}

/// Legitimate: one notification for each of 400 essays, 2.5 KB each.
pub(crate) fn many(_: &Context) -> Answer {
    Ok((1..=400).map(|essay| with_payload_text(object_of_bytes(2500)).key(format!("essay-{essay}"))).collect())
}

/// 10 MB in payloads that are small enough one by one. That is less than rules may have in memory, and is written well
/// within the time they have, so what stops it is a limit on answers.
pub(crate) fn huge_result(_: &Context) -> Answer {
    Ok((1..=400).map(|essay| with_payload_text(object_of_bytes(25_000)).key(format!("essay-{essay}"))).collect())
}

/// One payload of 100 MB. Where the guest may not have as much memory, it aborts while writing it.
pub(crate) fn huge_memory_result(_: &Context) -> Answer {
    Ok(vec![with_payload_text(object_of_bytes(100_000_000))])
}

/// Not a million but 40,000 notifications. One takes 128 bytes in the contract's form, and 152 in Rust's, which is
/// there until the answer is written: 100,000 would just fit into 32 MiB, but not be written within a rule's 50 ms.
/// They have no texts, so none is well-formed either; a host that counts first says that there are too many.
pub(crate) fn million_notifications(_: &Context) -> Answer {
    Ok(vec![Notification { payload: String::new(), ..Notification::to("") }; 40_000])
}
