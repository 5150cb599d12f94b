use belfry_sdk::prelude::*;

/// What a rule answers to an event.
pub(crate) type Answer = Result<Vec<Notification>, Rejection>;

/// A notification that keeps the contract; behaviours spoil what they are about.
pub(crate) fn well_formed() -> Notification {
    Notification::to("teacher-1")
        .kind("hostile")
        .category("processing_results")
        .payload(&json!({ "message": "nothing to see here" }))
}

/// The same with another payload, which need not be JSON.
pub(crate) fn with_payload_text(payload: String) -> Notification {
    Notification { payload, ..well_formed() }
}
