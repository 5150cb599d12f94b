use std::marker::PhantomData;

use crate::bindings::exports::belfry::projector::projector::Guest;
use crate::{Answer, Context, Description, Event, Rejection};

/// A notification rule. Its functions have no `self`: every event gets a fresh instance, so there is no state to keep.
pub trait Projector {
    /// Returns the name, version, subscriptions and settings of this rule.
    fn describe() -> Description;

    /// Checks the configuration. The error is a message for the person who made the release.
    fn check_config() -> Result<(), String> {
        Ok(())
    }

    /// Turns an event into notifications; returns [`Answer::none`] if nothing needs to be sent.
    fn project(event: Event, context: Context) -> Result<Answer, Rejection>;
}

/// The form in which a component exports a rule; see [`export!`](crate::export).
pub struct Exported<Rule>(PhantomData<Rule>);

impl<Rule: Projector> Guest for Exported<Rule> {
    fn describe() -> Description {
        Rule::describe()
    }

    fn check_config() -> Result<(), String> {
        Rule::check_config()
    }

    fn project(event: Event, context: Context) -> Result<Answer, Rejection> {
        Rule::project(event, context)
    }
}

/// Exports a rule as this crate's component. Use it once, in a crate of type `cdylib`. It has an effect only on
/// WebAssembly targets, so that a rule's unit tests run natively.
#[macro_export]
macro_rules! export {
    ($rule:ty) => {
        #[cfg(target_family = "wasm")]
        #[doc(hidden)]
        type BelfryExportedRule = $crate::Exported<$rule>;
        #[cfg(target_family = "wasm")]
        $crate::bindings::export_component!(BelfryExportedRule with_types_in $crate::bindings);
    };
}
