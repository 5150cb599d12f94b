//! Commands that change the database or the cluster themselves, not through a service.

/// As whom they do: the user of the system, as far as that is known.
pub fn by() -> String {
    whoami::username().map_or_else(|_| "direct".to_owned(), |name| format!("direct:{name}"))
}
