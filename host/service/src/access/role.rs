use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The permissions of a caller. From viewer on, each role includes the permissions of the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Posts events, and reads nothing.
    Producer,
    /// Reads events, notifications and feeds.
    Viewer,
    /// Also posts events.
    Publisher,
    /// Also changes which releases are active and which notifications are sent.
    Operator,
    /// Also creates and revokes tokens.
    Admin,
}

/// The text is not the name of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be producer, viewer, publisher, operator or admin")]
pub struct UnknownRole;

impl Role {
    /// All roles, from the lowest to the highest.
    pub const ALL: [Self; 5] = [Self::Producer, Self::Viewer, Self::Publisher, Self::Operator, Self::Admin];

    /// Returns the name of the role, as in requests and in the tokens file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Viewer => "viewer",
            Self::Publisher => "publisher",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl Role {
    /// Returns whether this role permits an operation that requires `needed`.
    pub fn may(self, needed: Self) -> bool {
        match self {
            Self::Producer => matches!(needed, Self::Producer | Self::Publisher),
            role => role >= needed,
        }
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producer_posts_and_reads_nothing() {
        assert!(Role::Producer.may(Role::Publisher));
        for needed in [Role::Viewer, Role::Operator, Role::Admin] {
            assert!(!Role::Producer.may(needed), "{needed}");
        }
        assert!(Role::Publisher.may(Role::Viewer) && !Role::Viewer.may(Role::Publisher));
    }
}
