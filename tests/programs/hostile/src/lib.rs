//! A rule that does harm on request: the setting `behaviour` says what. Tests let the sandbox loose on it.
//!
//! Describing and checking the configuration stay healthy, so that every behaviour meets the sandbox where rules do:
//! at an event. The table of all behaviours is in `behaviour.rs`; a module each holds those of one kind.
//!
//! Native builds of the workspace find an empty library here: a rule can be linked as a component only.
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

/// The rule; its behaviours are in modules of their own.
pub struct Hostile;

export!(Hostile);

impl Projector for Hostile {
    fn describe() -> Description {
        Description::new("hostile", env!("CARGO_PKG_VERSION"), "Does harm on request.")
            .subscribe(BATCH_RESULTS_READY_V1)
            .subscribe(BATCH_ASSESSMENT_COMPLETED_V1)
            .subscribe("test.hostile.v1")
            .config("behaviour", &behaviour::DEFAULT, "What to do with every event.")
            .config("stamp", &"", "What healthy notifications carry, to tell releases apart.")
    }

    fn check_config() -> Result<(), String> {
        Behaviour::configured().map(|_| ())
    }

    fn project(_: Event, context: Context) -> Answer {
        let behaviour = Behaviour::configured().map_err(|error| Rejection::new("invalid-config", error))?;
        (behaviour.act)(&context)
    }
}
