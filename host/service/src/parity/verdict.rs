//! Pairs the notifications of both sides, and reports pairs that differ and notifications without a counterpart.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use uuid::Uuid;

use super::content::Names;
use super::side::{Logged, Notice, OtherNotifications, Recorded};

/// Number of differences of one kind that are listed; any beyond that are only counted.
const MAX_TOLD: u64 = 100;

/// How the two sides differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DifferenceKind {
    /// The other notifier published it, and Belfry sends it too.
    ToldTwice,
    /// Both sides have it, with different content.
    Changed,
    /// The other notifier published it, and it is not in the log.
    OnlyOther,
    /// It is in the log, and the other notifier did not publish it.
    OnlyBelfry,
}

impl DifferenceKind {
    /// Returns the kind's name in reports.
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
    /// Its offset there.
    pub offset: i64,
}

/// One difference. It names the fields that differ, without their values.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// The kind of difference.
    #[serde(rename = "difference")]
    pub kind: DifferenceKind,
    /// The notification's type.
    pub notification_type: String,
    /// The correlation id, passed on from the event.
    pub correlation_id: Option<Uuid>,
    /// The other notifier's notification, if there is one.
    pub other: Option<OnTopic>,
    /// Belfry's notification, if there is one.
    pub belfry: Option<InLog>,
    /// The names of the fields in which the two differ.
    pub fields: Vec<String>,
}

/// The result of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The other notifier's topic.
    pub topic: String,
    /// The beginning of the period.
    pub from: String,
    /// The end of the period.
    pub to: String,
    /// The number of Belfry's notifications in the period.
    pub belfry: u64,
    /// The number of the other notifier's notifications in the period.
    pub other: u64,
    /// Pairs with equal content.
    pub same: u64,
    /// Notifications that the other notifier published again.
    pub repeated: u64,
    /// Notifications that only Belfry sent, as intended once it sends.
    pub sent: u64,
    /// Records on the topic that Belfry made.
    pub of_belfry: u64,
    /// Records on the topic that are not notifications.
    pub unreadable: u64,
    /// The number of differences of each kind.
    pub counts: BTreeMap<DifferenceKind, u64>,
    /// The differences, at most 100 of each kind.
    #[serde(skip)]
    pub differences: Vec<Difference>,
}

impl Comparison {
    /// Returns whether there are no differences.
    pub fn is_clean(&self) -> bool {
        self.counts.is_empty()
    }
}

/// Notifications with the same key, as indexes into the sides' lists.
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

/// Compares both sides. Only notifications between the two times count; those around them serve as counterparts only.
pub(super) fn judge(
    log: Vec<Notice<Logged>>,
    others: OtherNotifications,
    from_ms: i64,
    to_ms: i64,
    names: &Names,
) -> Comparison {
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
