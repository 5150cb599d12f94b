//! A replay's report as text.

use crate::client::replay_report::ReplayReport;
use crate::escape::escape;
use crate::output::{counted, table};

/// The maximum number of recipients shown; the page and the JSON have more.
const SHOWN: usize = 5;
/// The maximum number of examples shown of each kind; the page and the JSON have more.
const SAMPLES: usize = 2;

pub(super) fn report(report: &ReplayReport) -> String {
    let mut parts = vec![headline(report)];
    let kinds = report.kinds.iter().map(|kind| {
        let sums = kind.sums;
        let numbers = [sums.baseline, sums.candidate, sums.same, sums.added, sums.removed, sums.changed];
        let [baseline, candidate, same, added, removed, changed] = numbers.map(|number| number.to_string());
        [kind.category.clone(), kind.notification_type.clone(), baseline, candidate, same, added, removed, changed]
    });
    let header = ["category", "type", "baseline", "candidate", "same", "added", "removed", "changed"];
    if report.kinds.is_empty() {
        parts.push("neither side makes notifications of these events".into());
    } else {
        parts.push(table(header, kinds));
    }
    parts.extend(not_projected(report));
    if !report.priority_moves.is_empty() {
        let rows = report.priority_moves.iter();
        let rows = rows.map(|moved| [moved.before.clone(), moved.after.clone(), moved.count.to_string()]);
        parts.push(table(["priority before", "after", "notifications"], rows));
    }
    if !report.changed_fields.is_empty() {
        let rows = report.changed_fields.iter().map(|field| [field.field.clone(), field.count.to_string()]);
        parts.push(table(["field that differs", "notifications"], rows));
    }
    if !report.recipients.is_empty() {
        let rows = report
            .recipients
            .iter()
            .take(SHOWN)
            .map(|of| [of.recipient.clone(), of.added.to_string(), of.removed.to_string(), of.changed.to_string()]);
        let affected = counted(report.recipients_affected as usize, "recipient");
        parts.push(format!(
            "{affected} affected; the most affected:\n{}",
            table(["recipient", "added", "removed", "changed"], rows)
        ));
    }
    if !report.samples.is_empty() {
        parts.push(format!("for example:\n{}", samples(report)));
    }
    parts.join("\n\n")
}

fn headline(report: &ReplayReport) -> String {
    let events = report.events;
    let mut lines = vec![
        format!("{} instead of {}, {} to {}", report.candidate, report.baseline, report.from, report.to),
        format!(
            "{} projected in {:.1} s ({:.0}/s), {} with different notifications",
            counted(events.projected as usize, "event"),
            report.seconds,
            report.events_per_second,
            events.differing
        ),
    ];
    if events.passed_over > 0 {
        lines.push(format!(
            "{} skipped: neither side subscribes to them, or they are not in the sample",
            events.passed_over
        ));
    }
    if events.unreadable > 0 {
        lines.push(format!("{} skipped: this version cannot read them", events.unreadable));
    }
    lines.iter().map(|line| escape(line)).collect::<Vec<_>>().join("\n")
}

fn not_projected(report: &ReplayReport) -> Option<String> {
    let (baseline, candidate) = (&report.not_projected.baseline, &report.not_projected.candidate);
    let mut outcomes: Vec<&String> = baseline.keys().chain(candidate.keys()).collect();
    outcomes.sort();
    outcomes.dedup();
    let number = |of: &std::collections::BTreeMap<String, u64>, outcome: &str| {
        of.get(outcome).copied().unwrap_or_default().to_string()
    };
    let rows =
        outcomes.iter().map(|outcome| [(*outcome).clone(), number(baseline, outcome), number(candidate, outcome)]);
    (!outcomes.is_empty()).then(|| table(["events without notifications", "baseline", "candidate"], rows))
}

fn samples(report: &ReplayReport) -> String {
    let of_kind = |kind: &'static str| report.samples.iter().filter(move |sample| sample.kind == kind).take(SAMPLES);
    let rows = ["removed", "added", "changed"].into_iter().flat_map(of_kind).flat_map(|sample| {
        let mut fields =
            sample.fields.iter().map(|field| format!("{}: {} → {}", field.field, field.before, field.after));
        let about = [
            sample.kind.clone(),
            sample.event_id.clone(),
            sample.recipient.clone(),
            sample.notification_type.clone(),
            fields.next().unwrap_or_default(),
        ];
        let none = String::new;
        // One field per line, to keep lines short.
        std::iter::once(about).chain(fields.map(|field| [none(), none(), none(), none(), field]).collect::<Vec<_>>())
    });
    table(["", "event", "recipient", "type", "fields"], rows)
}
