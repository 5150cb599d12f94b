use belfry_model::Outcome;

/// The reason why a guest returned no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{outcome}: {detail}")]
pub struct Failure {
    /// The kind of failure.
    pub outcome: Outcome,
    /// What happened and what to do about it. Never quotes the event.
    pub detail: String,
}
