use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;

/// Findings of one kind that are told one by one; beyond that they are only counted.
const MAX_TOLD: u64 = 1000;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// It stands in the log, its sink is past it, and it is not on its topic.
    Missing,
    /// One effect under two ids, or one id at two positions of the log.
    Doubled,
    /// Its first appearance comes after that of a later entry of its key.
    Inversion,
    /// It is on the topic, it is belfry's, and the log does not know it.
    Unknown,
    /// It is not where its key belongs, or has another key than in the log.
    WrongPartition,
}

impl FindingKind {
    /// The word for it.
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

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    #[serde(rename = "finding")]
    pub kind: FindingKind,
    /// On which topic.
    pub topic: String,
    /// Which event or notification.
    pub event_id: Uuid,
    /// Where in the log, if it stands there.
    pub position: Option<i64>,
    /// Where on the topic, if it stands there.
    pub partition: Option<i32>,
    /// Where in the partition.
    pub offset: Option<i64>,
    /// In words.
    pub detail: String,
}

/// What an audit found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The first position of the range.
    pub from: i64,
    /// The last.
    pub to: i64,
    /// Entries of the range that are published.
    pub entries: u64,
    /// Keys of theirs.
    pub keys: u64,
    /// Keys with something missing, out of order or in a wrong place.
    pub keys_with_findings: u64,
    /// Records read.
    pub records: u64,
    /// Records that repeat an id seen before: allowed, consumers tell them by their id.
    pub repeats: u64,
    /// Entries that wait, as their sink refused them or one before them.
    pub parked: u64,
    /// Entries that somebody decided never to send.
    pub discarded: u64,
    /// Entries that were not sent as their time had passed.
    pub expired: u64,
    /// Entries that the sink has still to send, and those from before it began.
    pub not_due: u64,
    /// Entries of which the topic cannot tell any more: deleted or compacted away.
    pub deleted: u64,
    /// Records of entries outside of the range.
    pub outside: u64,
    /// Records that are not belfry's.
    pub foreign: u64,
    /// How many findings there are of each kind.
    pub counts: BTreeMap<FindingKind, u64>,
    /// The findings, not more than a thousand of each kind.
    #[serde(skip)]
    pub findings: Vec<Finding>,
}

impl Report {
    /// Nothing is wrong.
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
