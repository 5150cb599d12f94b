use crate::LeaseState;

/// What a replica reads from the database in one heartbeat, which also renews the replica's own leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The highest position in the log.
    pub end: i64,
    /// Number of the last rollout change.
    pub rollout: i64,
    /// Number of the last pause or resume.
    pub pauses: i64,
    /// Number of times a token was created or revoked.
    pub access: i64,
    /// Number of the last request for parked entries.
    pub parked_requests: i64,
    /// All leases.
    pub leases: Vec<LeaseState>,
    /// The incarnation of the database: changes when a standby takes over or a backup is restored.
    pub incarnation: String,
}

impl Beat {
    /// Returns a value that differs between two heartbeats if a rollout or a pause has changed in between.
    pub fn changes(&self) -> (i64, i64) {
        (self.rollout, self.pauses)
    }
}
