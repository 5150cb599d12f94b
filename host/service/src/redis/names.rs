use std::sync::Arc;

/// The channels and lists of one deployment, all of which begin with its prefix. Cheap to clone.
#[derive(Clone)]
pub(super) struct Names {
    /// The channel on which replicas announce the end of the log. Each sink also has a list of this name, followed by a
    /// colon and the sink's name. From it, the sink's holder takes wakes that it missed between two connections.
    pub(super) wake: Arc<str>,
    /// The channel for leases that were released.
    pub(super) lease: Arc<str>,
    /// The channel for changes of the active releases.
    pub(super) rollout: Arc<str>,
    /// The channel for requests about parked entries.
    pub(super) parked: Arc<str>,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        let name = |word: &str| Arc::from(format!("{prefix}outbox:{word}"));
        Self { wake: name("wake"), lease: name("lease"), rollout: name("rollout"), parked: name("parked") }
    }

    /// Returns the name of the list of a sink's wakes.
    pub(super) fn wakes_of(&self, sink: &str) -> String {
        format!("{}:{sink}", self.wake)
    }
}
