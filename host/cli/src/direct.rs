//! Commands that change the database or the cluster directly, not through a service.

/// Returns the author of such a change for the audit log: `direct:NAME` for the operating system user NAME, or `direct`
/// if the user is unknown.
pub fn by() -> String {
    whoami::username().map_or_else(|_| "direct".to_owned(), |name| format!("direct:{name}"))
}
