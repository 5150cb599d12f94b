//! How many files and connections this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is open beside connections of clients: the database, brokers, Redis, rules that are being loaded.
const OTHERS: usize = 200;
/// The fewest connections of the API, however few descriptors there are.
const FEWEST: usize = 16;

/// Ask the system for as many descriptors as it gives. Returns how many connections the API may have: as many as are
/// wanted, or as are left.
pub(crate) fn allow(wanted: usize, operators: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current };
    let Some(limit) = limit else { return wanted };
    let left = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(OTHERS + operators).max(FEWEST);
    if left < wanted {
        tracing::warn!(
            limit,
            wanted,
            connections = left,
            "too few file descriptors for http.max_connections; raise ulimit -n"
        );
    }
    wanted.min(left)
}
