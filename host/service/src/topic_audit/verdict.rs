//! Derives the findings from the ledger and the records that were found.

use std::collections::{HashMap, HashSet};

use belfry_store::SinkReach;

use super::finding::{Finding, FindingKind, Report};
use super::ledger::{AbsenceReason, Ledger, Logged};
use super::reader::{Met, Partition, UnknownRecord};

pub(super) fn judge(met: Met, compacted: &HashSet<String>, reach: SinkReach, from: i64, to: i64) -> Report {
    let Met { ledger, strangers, partitions, mut report } = met;
    (report.from, report.to, report.entries) = (from, to, ledger.len() as u64);
    let mut keys = ledger.bad_keys.clone();
    // Key by key, in the order of each partition.
    let mut order: Vec<u32> = (0..ledger.len() as u32).collect();
    order.sort_unstable_by_key(|number| {
        let entry = &ledger.entries[*number as usize];
        (entry.topic, entry.key, entry.partition, entry.offset, entry.position)
    });
    inversions(&ledger, &order, &mut report, &mut keys);
    missing(&ledger, &partitions, compacted, reach, &mut report, &mut keys);
    doubled_in_the_log(&ledger, &mut report);
    strangers_of(&ledger, &strangers, &mut report);
    let all: HashSet<u64> = ledger.entries.iter().map(|entry| entry.key).filter(|key| *key != 0).collect();
    (report.keys, report.keys_with_findings) = (all.len() as u64, keys.len() as u64);
    report.findings.sort_by_key(|finding| (finding.kind, finding.position, finding.partition, finding.offset));
    report
}

fn inversions(ledger: &Ledger, order: &[u32], report: &mut Report, keys: &mut HashSet<u64>) {
    let mut before: Option<&Logged> = None;
    for entry in order.iter().map(|number| &ledger.entries[*number as usize]) {
        if entry.copies == 0 || entry.key == 0 {
            continue;
        }
        let same = |other: &&Logged| (other.key, other.partition) == (entry.key, entry.partition);
        match before.filter(same) {
            Some(later) if later.position > entry.position => {
                let detail = format!("it first appears after position {}, which follows it in the log", later.position);
                report.add(finding(ledger, entry, FindingKind::Inversion, detail));
                keys.insert(entry.key);
            }
            _ => before = Some(entry),
        }
    }
}

fn missing(
    ledger: &Ledger,
    partitions: &HashMap<String, Vec<Partition>>,
    compacted: &HashSet<String>,
    reach: SinkReach,
    report: &mut Report,
    keys: &mut HashSet<u64>,
) {
    // The records that a topic has deleted precede those that it still has.
    let mut first_seen: HashMap<(u16, i32), i64> = HashMap::new();
    for entry in ledger.entries.iter().filter(|entry| entry.copies > 0) {
        let first = first_seen.entry((entry.topic, entry.partition)).or_insert(i64::MAX);
        *first = entry.position.min(*first);
    }
    // A compacted topic keeps the last record of each key.
    let is_compacted = |topic| compacted.contains(ledger.topic(topic));
    let mut last_of_key: HashMap<u64, i64> = HashMap::new();
    for entry in ledger.entries.iter().filter(|entry| entry.copies > 0 && entry.key != 0 && is_compacted(entry.topic)) {
        last_of_key.insert(entry.key, entry.position);
    }
    let deleted = |entry: &Logged| {
        if last_of_key.get(&entry.key).is_some_and(|last| *last > entry.position) {
            return true;
        }
        let partitions = partitions.get(ledger.topic(entry.topic)).map(Vec::as_slice).unwrap_or_default();
        let before_first = |number: usize| {
            let first = first_seen.get(&(entry.topic, number as i32)).copied().unwrap_or(i64::MAX);
            partitions[number].cut && entry.position < first
        };
        match (entry.key, partitions.len()) {
            (_, 0) => false,
            (0, count) => (0..count).any(before_first),
            (_, count) => before_first(entry.key_hash as usize % count),
        }
    };
    for entry in &ledger.entries {
        match entry.excuse {
            AbsenceReason::Parked => report.parked += 1,
            _ if entry.copies > 0 => {}
            AbsenceReason::Discarded => report.discarded += 1,
            AbsenceReason::Expired => report.expired += 1,
            AbsenceReason::None if entry.position > reach.position || entry.position <= reach.began_at => {
                report.not_due += 1
            }
            AbsenceReason::None if deleted(entry) => report.deleted += 1,
            AbsenceReason::None => {
                let detail = "the sink is past it, but it is not on the topic";
                report.add(finding(ledger, entry, FindingKind::Missing, detail.to_owned()));
                keys.insert(entry.key);
            }
        }
    }
    keys.remove(&0);
}

fn doubled_in_the_log(ledger: &Ledger, report: &mut Report) {
    for (first, second) in ledger.twins() {
        let detail = format!("the log has this id twice, first at position {}", first.position);
        report.add(finding(ledger, second, FindingKind::Doubled, detail));
    }
}

/// Reports Belfry's records that are not in the log: they repeat an effect under another id, or are unknown.
fn strangers_of(ledger: &Ledger, strangers: &[UnknownRecord], report: &mut Report) {
    let unknown = || strangers.iter().filter(|stranger| !stranger.known);
    report.outside = (strangers.len() - unknown().count()) as u64;
    let wanted: HashSet<u64> = unknown().map(|stranger| stranger.effect).filter(|effect| *effect != 0).collect();
    let mut effects: HashMap<u64, uuid::Uuid> = HashMap::new();
    let known = strangers.iter().filter(|stranger| stranger.known).map(|known| (known.effect, known.event_id));
    let logged = ledger.entries.iter().map(|entry| (entry.effect, entry.event_id));
    for (effect, event_id) in logged.chain(known).filter(|(effect, _)| wanted.contains(effect)) {
        effects.entry(effect).or_insert(event_id);
    }
    let mut reported = HashSet::new();
    for stranger in unknown() {
        if !reported.insert((stranger.event_id, stranger.topic)) {
            report.repeats += 1;
            continue;
        }
        let twin = match stranger.effect {
            0 => None,
            effect => Some(*effects.entry(effect).or_insert(stranger.event_id)),
        };
        let (kind, detail) = match twin.filter(|twin| *twin != stranger.event_id) {
            Some(twin) => (FindingKind::Doubled, format!("it has the same source event, recipient and type as {twin}")),
            None => (
                FindingKind::Unknown,
                "belfry made it, but it is not in this log; was it published and then lost in a failover or a restore?"
                    .to_owned(),
            ),
        };
        report.add(Finding {
            kind,
            topic: ledger.topic(stranger.topic).to_owned(),
            event_id: stranger.event_id,
            position: None,
            partition: Some(stranger.partition),
            offset: Some(stranger.offset),
            detail,
        });
    }
}

fn finding(ledger: &Ledger, entry: &Logged, kind: FindingKind, detail: String) -> Finding {
    let met = entry.copies > 0;
    Finding {
        kind,
        topic: ledger.topic(entry.topic).to_owned(),
        event_id: entry.event_id,
        position: Some(entry.position),
        partition: met.then_some(entry.partition),
        offset: met.then_some(entry.offset),
        detail,
    }
}
