/// An error that prevents the service from reading a body to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// The client sends too slowly.
    #[error("the body arrived too slowly")]
    TooSlow,
    /// Other bodies use the whole memory budget.
    #[error("too many bodies are being received")]
    NoMemory,
}

impl BodyError {
    /// Returns the `BodyError` in the chain of an error's sources, if there is one.
    pub(crate) fn of(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut error = Some(error);
        while let Some(cause) = error {
            if let Some(no_body) = cause.downcast_ref() {
                return Some(*no_body);
            }
            error = cause.source();
        }
        None
    }
}
