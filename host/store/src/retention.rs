use std::time::Duration;

/// Retention periods.
#[derive(Clone, Copy, Debug)]
pub struct KeepFor {
    /// Rows of the log, withheld notifications and dead letters.
    pub log: Duration,
    /// Ids of events, and identities of notifications.
    pub inbox: Duration,
}

/// Numbers of rows that retention removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// Rows of the log, withheld notifications and dead letters.
    pub log: u64,
    /// Rows of the inbox and issued identities.
    pub inbox: u64,
}
