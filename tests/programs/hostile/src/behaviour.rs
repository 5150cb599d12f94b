//! The table of all behaviours.

use belfry_sdk::prelude::*;

use crate::{Answer, ending, environment, fields, memory, output, payload, size, time};

/// The behaviour of a release without configuration.
pub(crate) const DEFAULT: &str = "quiet";

/// A behaviour of the rule at an event.
pub(crate) struct Behaviour {
    name: &'static str,
    /// Performs the behaviour.
    pub(crate) act: fn(&Context) -> Answer,
}

const fn named(name: &'static str, act: fn(&Context) -> Answer) -> Behaviour {
    Behaviour { name, act }
}

static ALL: [Behaviour; 42] = [
    named("quiet", ending::quiet),
    named("notify", ending::notify),
    named("reject", ending::reject),
    named("trap", ending::trap),
    named("trap-on-even", ending::trap_on_even),
    named("trap-on-one-in-twenty", ending::trap_on_one_in_twenty),
    named("exit", ending::exit),
    named("endless-loop", time::endless_loop),
    named("slow", time::slow),
    named("sleep", time::sleep),
    named("oversleep", time::oversleep),
    named("memory-hog", memory::memory_hog),
    named("stack-overflow", memory::stack_overflow),
    named("leaky-state", memory::leaky_state),
    named("ten", size::ten),
    named("many", size::many),
    named("huge-result", size::huge_result),
    named("huge-memory-result", size::huge_memory_result),
    named("million-notifications", size::million_notifications),
    named("invalid-payload", payload::invalid_payload),
    named("pretty-payload", payload::pretty_payload),
    named("array-payload", payload::array_payload),
    named("deep-payload", payload::deep_payload),
    named("large-payload", payload::large_payload),
    named("urgent", fields::urgent),
    named("same-identity", fields::same_identity),
    named("nul-recipient", fields::nul_recipient),
    named("empty-recipient", fields::empty_recipient),
    named("unknown-category", fields::unknown_category),
    named("not-before", fields::not_before),
    named("policies", fields::policies),
    named("expired", fields::expired),
    named("expires-later", fields::expires_later),
    named("withdraw", fields::withdraw),
    named("threaded", fields::threaded),
    named("long-thread", fields::long_thread),
    named("print", output::print),
    named("log-flood", output::log_flood),
    named("long-log-line", output::long_log_line),
    named("stdout-flood", output::stdout_flood),
    named("clocks-and-randomness", environment::clocks_and_randomness),
    named("missing-wasi", environment::missing_wasi),
];

impl Behaviour {
    /// Returns the behaviour that the release configures. The error lists the known behaviours.
    pub(crate) fn configured() -> Result<&'static Self, String> {
        let name = config::get::<String>("behaviour")?.unwrap_or_else(|| DEFAULT.to_owned());
        ALL.iter().find(|behaviour| behaviour.name == name).ok_or_else(|| {
            let known: Vec<_> = ALL.iter().map(|behaviour| behaviour.name).collect();
            format!("behaviour: {name:?} is not known; use one of {}", known.join(", "))
        })
    }
}
