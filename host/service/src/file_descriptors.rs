//! The limit on file descriptors, which bounds the connections of the API.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors reserved for everything but client connections: the database, brokers, Redis, rules that are being loaded.
const OTHERS: usize = 200;
/// Minimum number of API connections, even if there are too few descriptors for them.
const FEWEST: usize = 16;

/// Raises the limit on file descriptors to its maximum. Returns the number of connections that the API may have: `wanted`,
/// or fewer if the descriptors left after `operators` connections and [`OTHERS`] do not suffice.
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
