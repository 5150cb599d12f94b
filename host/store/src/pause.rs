/// What people can bring to a halt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Paused {
    /// A rule: its events become dead letters.
    Projector(String),
    /// A sink: entries wait in the log.
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

/// Something that is at a halt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// What.
    pub what: Paused,
    /// Why.
    pub reason: String,
    /// Who brought it there.
    pub created_by: String,
    /// When.
    pub created_at_ms: i64,
}
