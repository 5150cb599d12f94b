//! Determines which entry is at fault when a sink refuses entries that were sent together.

use std::collections::{BTreeMap, BTreeSet};

use crate::delivery::sink::Refused;

/// Entries that were refused together. At least one of them will never be accepted; the others may be.
#[derive(Debug)]
pub(super) struct Suspects {
    /// Their positions in the log.
    pub(super) positions: BTreeSet<i64>,
    /// The sink's reason.
    pub(super) reason: String,
}

/// The refusals that a session received.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Refused for a reason that lies in the entries sent together.
    refused: BTreeSet<i64>,
    /// Not sent, because other entries were refused.
    behind: BTreeSet<i64>,
    reason: Option<String>,
    /// Topics of which nothing is accepted, with the reason.
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

    /// Takes the topics of which nothing is accepted, with the reason. Entries behind theirs are not at fault.
    pub(super) fn topics(&mut self) -> BTreeMap<String, String> {
        std::mem::take(&mut self.topics)
    }

    /// Returns the entries that have to be sent one at a time, if any.
    pub(super) fn suspects(self) -> Option<Suspects> {
        let suspects = |positions, reason| Some(Suspects { positions, reason });
        match self.reason {
            Some(reason) => suspects(self.refused, reason),
            // The sink stopped because of an entry, and did not report which one.
            None if !self.behind.is_empty() => suspects(self.behind, "the sink stopped at an entry".to_owned()),
            None => None,
        }
    }
}
