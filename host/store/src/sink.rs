use std::time::Duration;

/// The entries that a sink missed while it was off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Number of entries to be sent, counted up to [`MAX_BACKLOG`].
    pub entries: i64,
    /// When the sink went off, in milliseconds since the Unix epoch.
    pub off_since_ms: i64,
}

/// The limit up to which a backlog is counted.
pub const MAX_BACKLOG: i64 = 1_000_000;

/// A registered sink. The log keeps the entries that it has not read.
#[derive(Clone, Debug, PartialEq)]
pub struct Sink {
    /// Its name, such as `kafka`.
    pub name: String,
    /// The position up to which it has been served.
    pub position: i64,
    /// The age of the oldest entry that it has not read; `None` if there is none.
    pub unread_for: Option<Duration>,
    /// Number of positions after its own that are no longer in the log.
    pub missing: i64,
    /// Number of its entries that are parked.
    pub parked: i64,
}

/// The result of a request to forget a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForgetSink {
    /// The sink is no longer registered. If it is enabled again, it begins at the end of the log.
    Forgotten,
    /// No such sink is registered.
    Unknown,
    /// A replica serves the sink.
    Served,
}

/// The result of a request to skip entries that are no longer in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipGap {
    /// The sink continues after this position.
    Skipped {
        /// The last position that is no longer in the log.
        position: i64,
        /// Number of positions skipped.
        missing: i64,
    },
    /// All entries that the sink has not read are in the log.
    NoGap,
    /// No such sink is registered.
    Unknown,
}
