use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;

/// Number of findings of one kind that are listed; any beyond that are only counted.
const MAX_TOLD: u64 = 1000;

/// The kind of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// The entry is in the log and its sink is past it, but it is not on its topic.
    Missing,
    /// The same effect under two ids, or one id at two positions in the log.
    Doubled,
    /// The entry's first appearance on the topic follows that of a later entry with the same key.
    Inversion,
    /// The record is on the topic and was made by Belfry, but is not in the log.
    Unknown,
    /// The record is not in its key's partition, or has another key than in the log.
    WrongPartition,
}

impl FindingKind {
    /// Returns the kind's name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Doubled => "doubled",
            Self::Inversion => "inversion",
            Self::Unknown => "unknown",
            Self::WrongPartition => "wrong-partition",
        }
    }
}

/// One discrepancy between the log and a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The kind of discrepancy.
    #[serde(rename = "finding")]
    pub kind: FindingKind,
    /// The topic.
    pub topic: String,
    /// The id of the event or notification.
    pub event_id: Uuid,
    /// The position in the log, if it is there.
    pub position: Option<i64>,
    /// The partition of the topic, if it is there.
    pub partition: Option<i32>,
    /// The offset in the partition, if it is on the topic.
    pub offset: Option<i64>,
    /// A description for people.
    pub detail: String,
}

/// The result of an audit.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The first position of the audited range.
    pub from: i64,
    /// The last position of the range.
    pub to: i64,
    /// Entries in the range that have a topic.
    pub entries: u64,
    /// Distinct keys of these entries.
    pub keys: u64,
    /// Keys with a missing, out-of-order or misplaced entry.
    pub keys_with_findings: u64,
    /// Records read from the topics.
    pub records: u64,
    /// Records that repeat an id seen before. They are allowed: consumers recognize them by their id.
    pub repeats: u64,
    /// Entries that are parked, because their sink refused them or one before them.
    pub parked: u64,
    /// Entries that an operator discarded: they are never sent.
    pub discarded: u64,
    /// Entries that were not sent because they had expired.
    pub expired: u64,
    /// Entries that the sink has yet to send, and those from before it began.
    pub not_due: u64,
    /// Entries whose records the topic may have deleted or compacted away.
    pub deleted: u64,
    /// Records of entries outside the range.
    pub outside: u64,
    /// Records that Belfry did not make.
    pub foreign: u64,
    /// The number of findings of each kind.
    pub counts: BTreeMap<FindingKind, u64>,
    /// The findings, at most 1000 of each kind.
    #[serde(skip)]
    pub findings: Vec<Finding>,
}

impl Report {
    /// Returns whether there are no findings.
    pub fn is_clean(&self) -> bool {
        self.counts.is_empty()
    }

    pub(super) fn add(&mut self, finding: Finding) {
        let count = self.counts.entry(finding.kind).or_default();
        *count += 1;
        if *count <= MAX_TOLD {
            self.findings.push(finding);
        }
    }
}
