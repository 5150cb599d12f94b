//! Ways in which a call can end: with an answer, with a rejection, or not at all.

use belfry_sdk::prelude::*;

use crate::Answer;
use crate::answer::well_formed;

/// Returns no notifications.
pub(crate) fn quiet(_: &Context) -> Answer {
    Ok(belfry_sdk::Answer::none())
}

/// Returns a notification, as a healthy rule does. The setting `stamp` marks it with its release.
pub(crate) fn notify(_: &Context) -> Answer {
    let stamp = config::get::<String>("stamp").map_err(|error| Rejection::new("invalid-config", error))?;
    Ok(vec![match stamp.filter(|stamp| !stamp.is_empty()) {
        None => well_formed(),
        Some(stamp) => well_formed().payload(&json!({ "message": "nothing to see here", "stamp": stamp })),
    }]
    .into())
}

/// Rejects the event.
pub(crate) fn reject(_: &Context) -> Answer {
    Err(Rejection::new("no-thanks", "this rule is configured to reject everything"))
}

/// Panics, as a bug in Rust does.
pub(crate) fn trap(_: &Context) -> Answer {
    panic!("this rule is configured to panic")
}

/// Panics only at some events: those with the subject `even`.
pub(crate) fn trap_on_even(context: &Context) -> Answer {
    if context.subject == "even" { trap(context) } else { notify(context) }
}

/// Panics at one event in twenty.
pub(crate) fn trap_on_one_in_twenty(context: &Context) -> Answer {
    let end = context.event_id.len() - 4;
    let number = u32::from_str_radix(&context.event_id[end..], 16).unwrap_or_default();
    if number.is_multiple_of(20) { trap(context) } else { notify(context) }
}

/// Ends the process, which for a component would be the host's process.
pub(crate) fn exit(_: &Context) -> Answer {
    std::process::exit(3)
}
