//! A rule that misbehaves on request: the setting `behaviour` selects how. Tests run it in the sandbox.
//!
//! `describe` and `check-config` work, so that every behaviour reaches the sandbox where rules do: at an event. The
//! table of all behaviours is in `behaviour.rs`; each of the other modules has the behaviours of one kind.
//!
//! Native builds of the workspace get an empty library here: a rule can only be linked as a component.
#![cfg(target_family = "wasm")]

use belfry_sdk::prelude::*;

mod answer;
mod behaviour;
mod ending;
mod environment;
mod fields;
mod memory;
mod output;
mod payload;
mod size;
mod time;

use answer::Answer;
use behaviour::Behaviour;

/// The rule. Its behaviours are in separate modules.
pub struct Hostile;

export!(Hostile);

impl Projector for Hostile {
    fn describe() -> Description {
        Description::new("hostile", env!("CARGO_PKG_VERSION"), "Misbehaves on request.")
            .subscribe(BATCH_RESULTS_READY_V1)
            .subscribe(BATCH_ASSESSMENT_COMPLETED_V1)
            .subscribe("test.hostile.v1")
            .config("behaviour", &behaviour::DEFAULT, "The behaviour at every event.")
            .config("stamp", &"", "A text in healthy notifications, to distinguish releases.")
    }

    fn check_config() -> Result<(), String> {
        Behaviour::configured().map(|_| ())
    }

    fn project(_: Event, context: Context) -> Answer {
        let behaviour = Behaviour::configured().map_err(|error| Rejection::new("invalid-config", error))?;
        (behaviour.act)(&context)
    }
}
