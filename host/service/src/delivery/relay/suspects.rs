//! Who is to blame when a sink refuses entries that were sent together.

use std::collections::{BTreeMap, BTreeSet};

use crate::delivery::outlet::Refused;

/// Entries that were refused together. At least one of them will never be taken; the others may.
#[derive(Debug)]
pub(super) struct Suspects {
    /// Their positions in the log.
    pub(super) positions: BTreeSet<i64>,
    /// What the sink said.
    pub(super) reason: String,
}

/// What a session was told of entries that were not taken.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Refused for a reason that lies in the entries sent together.
    refused: BTreeSet<i64>,
    /// Not sent any more, because of others.
    behind: BTreeSet<i64>,
    reason: Option<String>,
    /// Topics of which nothing is taken, with the reason.
    topics: BTreeMap<String, String>,
}

impl Refusals {
    pub(super) fn note(&mut self, position: i64, refused: &Refused) {
        match refused {
            Refused::Entry(reason) => {
                self.refused.insert(position);
                self.reason.get_or_insert_with(|| reason.clone());
            }
            Refused::Behind(_) => {
                self.behind.insert(position);
            }
            Refused::Topic { topic, reason } => {
                self.topics.insert(topic.clone(), reason.clone());
            }
            Refused::Sink(_) => {}
        }
    }

    /// Topics of which nothing is taken, with the reason. What stood behind their entries is not to blame.
    pub(super) fn topics(&mut self) -> BTreeMap<String, String> {
        std::mem::take(&mut self.topics)
    }

    /// Those that are to be sent one at a time, if any.
    pub(super) fn suspects(self) -> Option<Suspects> {
        let suspects = |positions, reason| Some(Suspects { positions, reason });
        match self.reason {
            Some(reason) => suspects(self.refused, reason),
            // A sink that stopped because of an entry, and did not say which.
            None if !self.behind.is_empty() => suspects(self.behind, "the sink stopped at an entry".to_owned()),
            None => None,
        }
    }
}
