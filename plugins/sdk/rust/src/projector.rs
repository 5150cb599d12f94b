use std::marker::PhantomData;

use crate::bindings::exports::belfry::projector::projector::Guest;
use crate::{Context, Description, Event, Notification, Rejection};

/// A notification rule. Its functions have no `self`: every event meets a fresh instance, so there is nothing to keep.
pub trait Projector {
    /// Say what this rule is.
    fn describe() -> Description;

    /// Look at the configuration and say, for the person who made it, what is wrong with it.
    fn check_config() -> Result<(), String> {
        Ok(())
    }

    /// Turn an event into notifications; none if nobody needs to know.
    fn project(event: Event, context: Context) -> Result<Vec<Notification>, Rejection>;
}

/// A rule in the form in which a component exports it; see [`export!`](crate::export).
pub struct Exported<Rule>(PhantomData<Rule>);

impl<Rule: Projector> Guest for Exported<Rule> {
    fn describe() -> Description {
        Rule::describe()
    }

    fn check_config() -> Result<(), String> {
        Rule::check_config()
    }

    fn project(event: Event, context: Context) -> Result<Vec<Notification>, Rejection> {
        Rule::project(event, context)
    }
}

/// Make this crate's component from a rule. Once in a crate of type `cdylib`. Does nothing but for WebAssembly targets,
/// so that a rule's own unit tests run natively.
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
