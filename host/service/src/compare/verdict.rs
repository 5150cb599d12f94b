//! Finds pairs, and says of what is left over where it is missing.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use uuid::Uuid;

use super::content::Names;
use super::side::{Logged, Notice, Others, Recorded};

/// Differences of one kind that are told one by one; beyond that they are only counted.
const MAX_TOLD: u64 = 100;

/// In what the two sides differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DifferenceKind {
    /// The other one told it, and Belfry sends it too.
    ToldTwice,
    /// Both tell the recipient of it, and not the same.
    Changed,
    /// The other one told it, and the log does not have it.
    OnlyOther,
    /// The log has it, and the other one did not tell it.
    OnlyBelfry,
}

impl DifferenceKind {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ToldTwice => "told-twice",
            Self::Changed => "changed",
            Self::OnlyOther => "only-other",
            Self::OnlyBelfry => "only-belfry",
        }
    }
}

/// A notification in the log.
#[derive(Clone, Debug, Serialize)]
pub struct InLog {
    /// Its id.
    pub event_id: Uuid,
    /// Its position.
    pub position: i64,
}

/// A notification on the topic.
#[derive(Clone, Debug, Serialize)]
pub struct OnTopic {
    /// Its id, if it has one.
    pub event_id: Option<Uuid>,
    /// Its partition.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
}

/// One difference. It names what differs, and shows nothing of it.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// Of which kind.
    #[serde(rename = "difference")]
    pub kind: DifferenceKind,
    /// The notification's type.
    pub notification_type: String,
    /// What the notification follows from.
    pub correlation_id: Option<Uuid>,
    /// The other's.
    pub other: Option<OnTopic>,
    /// Belfry's.
    pub belfry: Option<InLog>,
    /// The names of the fields in which they differ.
    pub fields: Vec<String>,
}

/// What was compared, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The other's topic.
    pub topic: String,
    /// The first moment.
    pub from: String,
    /// The last.
    pub to: String,
    /// Belfry's notifications in that time.
    pub belfry: u64,
    /// The other's.
    pub other: u64,
    /// Pairs of which both say the same.
    pub same: u64,
    /// What the other told again.
    pub repeated: u64,
    /// What Belfry alone sent, as it is meant to once it sends.
    pub sent: u64,
    /// Records on the topic that Belfry made.
    pub of_belfry: u64,
    /// Records on the topic that tell nobody anything.
    pub unreadable: u64,
    /// How many differences there are of each kind.
    pub counts: BTreeMap<DifferenceKind, u64>,
    /// The differences, not more than a hundred of each kind.
    #[serde(skip)]
    pub differences: Vec<Difference>,
}

impl Comparison {
    /// Both sides tell the same.
    pub fn is_clean(&self) -> bool {
        self.counts.is_empty()
    }
}

/// What belongs together, by place in the sides' lists.
#[derive(Default)]
struct Group {
    log: Vec<usize>,
    others: Vec<usize>,
}

struct Judge<'a> {
    log: &'a [Notice<Logged>],
    others: &'a [Notice<Recorded>],
    from_ms: i64,
    to_ms: i64,
    names: &'a Names,
    comparison: Comparison,
}

/// Only what lies between the two times counts; what lies around it is there to be a partner.
pub(super) fn judge(log: Vec<Notice<Logged>>, others: Others, from_ms: i64, to_ms: i64, names: &Names) -> Comparison {
    let mut groups: HashMap<u64, Group> = HashMap::new();
    log.iter().enumerate().for_each(|(place, one)| groups.entry(one.content.key).or_default().log.push(place));
    let theirs = &others.notices;
    theirs.iter().enumerate().for_each(|(place, one)| groups.entry(one.content.key).or_default().others.push(place));
    let inside = |at_ms: i64| (from_ms..=to_ms).contains(&at_ms);
    let comparison = Comparison {
        topic: others.topic,
        from: rfc3339(from_ms),
        to: rfc3339(to_ms),
        belfry: log.iter().filter(|notice| inside(notice.at_ms)).count() as u64,
        other: theirs.iter().filter(|notice| inside(notice.at_ms)).count() as u64,
        same: 0,
        repeated: 0,
        sent: 0,
        of_belfry: others.by_belfry,
        unreadable: others.unreadable,
        counts: BTreeMap::new(),
        differences: Vec::new(),
    };
    let mut judge = Judge { log: &log, others: theirs, from_ms, to_ms, names, comparison };
    groups.into_values().for_each(|group| judge.group(group));
    let mut comparison = judge.comparison;
    comparison.differences.sort_by_key(|difference| {
        let position = difference.belfry.as_ref().map(|belfry| belfry.position);
        (difference.kind, position, difference.other.as_ref().map(|other| (other.partition, other.offset)))
    });
    comparison
}

impl Judge<'_> {
    fn inside(&self, at_ms: i64) -> bool {
        (self.from_ms..=self.to_ms).contains(&at_ms)
    }

    fn group(&mut self, group: Group) {
        let Group { mut log, others } = group;
        let (all, mut unlike) = (log.clone(), Vec::new());
        for other in others {
            let says_the_same = |one: &usize| self.log[*one].content.fields == self.others[other].content.fields;
            match log.iter().position(says_the_same) {
                Some(place) => self.pair(log.remove(place), other),
                None if all.iter().any(says_the_same) => {
                    self.comparison.repeated += u64::from(self.inside(self.others[other].at_ms));
                }
                None => unlike.push(other),
            }
        }
        let mut log = log.into_iter();
        for other in unlike {
            match log.next() {
                Some(one) => self.pair(one, other),
                None if self.inside(self.others[other].at_ms) => {
                    self.tell(DifferenceKind::OnlyOther, None, Some(other));
                }
                None => {}
            }
        }
        for one in log.filter(|one| self.inside(self.log[*one].at_ms)).collect::<Vec<_>>() {
            match self.log[one].place.sent {
                true => self.comparison.sent += 1,
                false => self.tell(DifferenceKind::OnlyBelfry, Some(one), None),
            }
        }
    }

    fn pair(&mut self, one: usize, other: usize) {
        let (ours, theirs) = (&self.log[one], &self.others[other]);
        if !self.inside(ours.at_ms) && !self.inside(theirs.at_ms) {
            return;
        }
        if ours.place.sent {
            self.tell(DifferenceKind::ToldTwice, Some(one), Some(other));
        } else if ours.content.fields == theirs.content.fields {
            self.comparison.same += 1;
        } else {
            self.tell(DifferenceKind::Changed, Some(one), Some(other));
        }
    }

    fn tell(&mut self, kind: DifferenceKind, one: Option<usize>, other: Option<usize>) {
        let count = self.comparison.counts.entry(kind).or_default();
        *count += 1;
        if *count > MAX_TOLD {
            return;
        }
        let (ours, theirs) = (one.map(|one| &self.log[one]), other.map(|other| &self.others[other]));
        let contents = (ours.map(|notice| &notice.content), theirs.map(|notice| &notice.content));
        let content = contents.0.or(contents.1);
        self.comparison.differences.push(Difference {
            kind,
            notification_type: content.map(|content| self.names.name(content.kind).to_owned()).unwrap_or_default(),
            correlation_id: content.and_then(|content| content.correlation_id),
            other: theirs.map(|Notice { place: Recorded { event_id, partition, offset }, .. }| OnTopic {
                event_id: *event_id,
                partition: *partition,
                offset: *offset,
            }),
            belfry: ours.map(|Notice { place: Logged { event_id, position, .. }, .. }| InLog {
                event_id: *event_id,
                position: *position,
            }),
            fields: match contents {
                (Some(ours), Some(theirs)) => ours.differences(theirs, self.names),
                _ => Vec::new(),
            },
        });
    }
}

fn rfc3339(ms: i64) -> String {
    belfry_model::format_instant_ms(ms).unwrap_or_default()
}
