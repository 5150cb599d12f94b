use belfry_sdk::prelude::*;

/// A rule's answer to an event.
pub(crate) type Answer = Result<belfry_sdk::Answer, Rejection>;

/// Returns a notification that satisfies the contract; each behaviour breaks the part that it is about.
pub(crate) fn well_formed() -> Notification {
    Notification::to("teacher-1")
        .kind("hostile")
        .category("processing_results")
        .payload(&json!({ "message": "nothing to see here" }))
}

/// Returns the same notification with another payload, which need not be JSON.
pub(crate) fn with_payload_text(payload: String) -> Notification {
    Notification { payload, ..well_formed() }
}
