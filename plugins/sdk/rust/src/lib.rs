//! The SDK for writing Belfry notification rules in Rust.
//!
//! A rule is a type that implements [`Projector`]. [`export!`] exports it as a component.
//!
//! ```
//! use belfry_sdk::prelude::*;
//!
//! struct Rule;
//!
//! impl Projector for Rule {
//!     fn describe() -> Description {
//!         Description::new("first-rule", "1.0.0", "Notifies teachers when results are ready.")
//!             .subscribe(BATCH_RESULTS_READY_V1)
//!     }
//!
//!     fn project(event: Event, _: Context) -> Result<Answer, Rejection> {
//!         let Event::BatchResultsReadyV1(batch) = event else { return Ok(Answer::none()) };
//!         let notification = Notification::to(batch.user_id)
//!             .kind("batch_results_ready")
//!             .category("processing_results")
//!             .priority(Priority::High)
//!             .payload(&json!({ "message": format!("{} essays are ready", batch.completed_essays) }));
//!         Ok(notification.into())
//!     }
//! }
//!
//! export!(Rule);
//! # fn main() {}
//! ```
//!
//! Build it with `cargo build --release --target wasm32-wasip2` and test it with `belfry plugin test`.

#[doc(hidden)]
#[allow(missing_docs, unsafe_code, unreachable_pub, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        world: "notification-projector",
        pub_export_macro: true,
        export_macro_name: "export_component",
        default_bindings_module: "belfry_sdk::bindings",
        additional_derives: [PartialEq, Clone],
    });
}

mod answer;
pub mod config;
mod description;
pub mod log;
mod notification;
mod projector;
pub mod source;

pub use bindings::belfry::projector::events::{
    BatchAssessmentCompletedV1, BatchResultsReadyV1, Event, PhaseResult, Ranking,
};
pub use bindings::belfry::projector::types::{
    Answer, ConfigKey, Context, Description, Instant, Notification, Policy, Priority, Rejection, Subscription,
    Throttle, Window, Withdrawal,
};
pub use projector::{Exported, Projector};

/// The event type, which is also the topic, of [`BatchResultsReadyV1`].
pub const BATCH_RESULTS_READY_V1: &str = "huleedu.ras.batch.results.ready.v1";
/// The event type, which is also the topic, of [`BatchAssessmentCompletedV1`].
pub const BATCH_ASSESSMENT_COMPLETED_V1: &str = "huleedu.ras.batch.assessment.completed.v1";

/// The items that most rules need.
pub mod prelude {
    pub use serde_json::json;

    pub use crate::{
        Answer, BATCH_ASSESSMENT_COMPLETED_V1, BATCH_RESULTS_READY_V1, BatchAssessmentCompletedV1, BatchResultsReadyV1,
        Context, Description, Event, Instant, Notification, PhaseResult, Priority, Projector, Ranking, Rejection,
        config, export, log, source,
    };
}
