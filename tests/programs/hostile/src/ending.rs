//! How a call can end: well, with a refusal, or not at all.

use belfry_sdk::prelude::*;

use crate::Answer;
use crate::answer::well_formed;

/// Nobody needs to know.
pub(crate) fn quiet(_: &Context) -> Answer {
    Ok(vec![])
}

/// What a healthy rule does. With the setting `stamp` it says which release it is of.
pub(crate) fn notify(_: &Context) -> Answer {
    let stamp = config::get::<String>("stamp").map_err(|error| Rejection::new("invalid-config", error))?;
    Ok(vec![match stamp.filter(|stamp| !stamp.is_empty()) {
        None => well_formed(),
        Some(stamp) => well_formed().payload(&json!({ "message": "nothing to see here", "stamp": stamp })),
    }])
}

/// The event makes no sense.
pub(crate) fn reject(_: &Context) -> Answer {
    Err(Rejection::new("no-thanks", "this rule was told to reject everything"))
}

/// A bug, as it ends in Rust.
pub(crate) fn trap(_: &Context) -> Answer {
    panic!("this rule was told to panic")
}

/// A bug that only some events meet: those whose subject is called so.
pub(crate) fn trap_on_even(context: &Context) -> Answer {
    if context.subject == "even" { trap(context) } else { notify(context) }
}

/// The same for one event in twenty.
pub(crate) fn trap_on_one_in_twenty(context: &Context) -> Answer {
    let end = context.event_id.len() - 4;
    let number = u32::from_str_radix(&context.event_id[end..], 16).unwrap_or_default();
    if number.is_multiple_of(20) { trap(context) } else { notify(context) }
}

/// End the whole process, which in a component is the host's.
pub(crate) fn exit(_: &Context) -> Answer {
    std::process::exit(3)
}
