/// Something that an operator can pause.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Paused {
    /// A rule: its events become dead letters.
    Projector(String),
    /// A sink: entries stay queued in the log.
    Sink(String),
    /// All notifications: they are withheld.
    Notifications,
}

impl Paused {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Projector(_) => "projector",
            Self::Sink(_) => "sink",
            Self::Notifications => "notifications",
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Projector(name) | Self::Sink(name) => name,
            Self::Notifications => "",
        }
    }

    pub(crate) fn of(kind: &str, name: String) -> Option<Self> {
        match kind {
            "projector" => Some(Self::Projector(name)),
            "sink" => Some(Self::Sink(name)),
            "notifications" => Some(Self::Notifications),
            _ => None,
        }
    }
}

/// A pause that is in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// What is paused.
    pub what: Paused,
    /// Why it is paused.
    pub reason: String,
    /// Who paused it.
    pub created_by: String,
    /// When, in milliseconds since the Unix epoch.
    pub created_at_ms: i64,
}
