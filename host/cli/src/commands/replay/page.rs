//! A replay's report as a self-contained HTML page: without scripts, and without external fonts or images.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::client::replay_report::{ReplayKind, ReplayReport, ReplaySums};

const STYLE: &str = "
:root { color-scheme: light dark; --same: #8a94a6; --added: #2e8b57; --removed: #c0392b; --changed: #d68910;
  --baseline: #8a94a6; --candidate: #2f6fde; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; } td, th { padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; } .tile { border: 1px solid var(--line); border-radius: .5rem;
  padding: .5rem 1rem; min-width: 6rem; } .tile b { display: block; font-size: 1.6rem; }
.added { color: var(--added); } .removed { color: var(--removed); } .changed { color: var(--changed); }
svg { display: block; width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: currentColor; }
code { font-size: .85em; } .quiet { opacity: .7; }
";

/// The sizes in the charts, in units of their `viewBox`.
const WIDTH: f64 = 960.0;
const VOLUME_HEIGHT: f64 = 160.0;
const ROW: f64 = 26.0;
const LABELS: f64 = 280.0;

pub(super) fn report(report: &ReplayReport) -> String {
    let title = format!("{} instead of {}", report.candidate, report.baseline);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Replay: " (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                p {
                    "The notifications of " b { (report.candidate) } " for the events that were recorded from "
                    (report.from) " to " (report.to) ", compared with "
                    @if report.baseline == "recorded" { "the notifications issued then" } @else { b { (report.baseline) } }
                    ". Nothing was sent."
                }
                (tiles(report))
                (volume(report))
                (kinds(&report.kinds))
                (not_projected(report))
                (priority_moves(report))
                (changed_fields(report))
                (recipients(report))
                (samples(report))
                p.quiet {
                    (report.events.projected) " events projected in " (format!("{:.1}", report.seconds)) " s; "
                    (report.events.passed_over) " skipped; " (report.events.unreadable) " could not be read."
                }
            }
        }
    };
    page.into_string()
}

fn tiles(report: &ReplayReport) -> Markup {
    let sums = report.notifications;
    html! {
        div.tiles {
            div.tile { b { (report.events.differing) } "of " (report.events.projected) " events differ" }
            div.tile { b { (sums.same) } "the same" }
            div.tile.added { b { (sums.added) } "added" }
            div.tile.removed { b { (sums.removed) } "removed" }
            div.tile.changed { b { (sums.changed) } "changed" }
            div.tile { b { (report.recipients_affected) } "recipients affected" }
        }
    }
}

/// Draws two columns for each time span.
fn volume(report: &ReplayReport) -> Markup {
    let highest = report.volume.iter().map(|span| span.baseline.max(span.candidate)).max().unwrap_or(0);
    if highest == 0 {
        return html! {};
    }
    let step = WIDTH / report.volume.len() as f64;
    let height = |count: u64| count as f64 / highest as f64 * (VOLUME_HEIGHT - 20.0);
    let column = |place: usize, side: f64, count: u64, colour: &str, what: &str| {
        let (x, height) = (place as f64 * step + side * step * 0.42 + step * 0.08, height(count));
        html! {
            rect x=(round(x)) y=(round(VOLUME_HEIGHT - height)) width=(round(step * 0.4)) height=(round(height))
                fill=(format!("var(--{colour})")) { title { (what) ": " (count) } }
        }
    };
    html! {
        h2 { "Notifications over time" }
        svg viewBox=(format!("0 0 {WIDTH} {}", VOLUME_HEIGHT + 18.0)) role="img"
            aria-label="Notifications of both sides over time" {
            text x="0" y="11" { (highest) " at the maximum; grey: baseline, blue: candidate" }
            @for (place, span) in report.volume.iter().enumerate() {
                (column(place, 0.0, span.baseline, "baseline", &format!("{} baseline", span.from)))
                (column(place, 1.0, span.candidate, "candidate", &format!("{} candidate", span.from)))
            }
            line x1="0" y1=(VOLUME_HEIGHT) x2=(WIDTH) y2=(VOLUME_HEIGHT) stroke="var(--line)" {}
            text x="0" y=(VOLUME_HEIGHT + 14.0) { (report.from) }
            text x=(WIDTH) y=(VOLUME_HEIGHT + 14.0) text-anchor="end" { (report.to) }
        }
    }
}

/// Draws a bar for each category and type, divided into same, changed, added and removed.
fn kinds(kinds: &[ReplayKind]) -> Markup {
    let all = |sums: &ReplaySums| sums.same + sums.changed + sums.added + sums.removed;
    let longest = kinds.iter().map(|kind| all(&kind.sums)).max().unwrap_or(0).max(1);
    let pieces = |sums: ReplaySums| {
        let mut x = LABELS;
        [("same", sums.same), ("changed", sums.changed), ("added", sums.added), ("removed", sums.removed)].map(
            |(name, count)| {
                let width = count as f64 / longest as f64 * (WIDTH - LABELS);
                x += width;
                (name, count, x - width, width)
            },
        )
    };
    html! {
        h2 { "By category and type" }
        svg viewBox=(format!("0 0 {WIDTH} {}", ROW * kinds.len().max(1) as f64)) role="img"
            aria-label="Notifications that are the same, changed, added and removed, by category and type" {
            @for (row, kind) in kinds.iter().enumerate() {
                text x="0" y=(round(row as f64 * ROW + 16.0)) { (kind.category) " · " (kind.notification_type) }
                @for (name, count, x, width) in pieces(kind.sums) {
                    rect x=(round(x)) y=(round(row as f64 * ROW + 4.0)) width=(round(width)) height="16"
                        fill=(format!("var(--{name})")) { title { (name) ": " (count) } }
                }
            }
        }
        table {
            tr {
                th { "category" } th { "type" } th.n { "baseline" } th.n { "candidate" } th.n { "same" }
                th.n.added { "added" } th.n.removed { "removed" } th.n.changed { "changed" }
            }
            @for ReplayKind { category, notification_type, sums } in kinds {
                tr {
                    td { (category) } td { (notification_type) }
                    @for number in [sums.baseline, sums.candidate, sums.same, sums.added, sums.removed, sums.changed] {
                        td.n { (number) }
                    }
                }
            }
        }
    }
}

fn not_projected(report: &ReplayReport) -> Markup {
    let sides = [("baseline", &report.not_projected.baseline), ("candidate", &report.not_projected.candidate)];
    html! {
        @if sides.iter().any(|(_, outcomes)| !outcomes.is_empty()) {
            h2 { "Events without notifications" }
            table {
                tr { th { "side" } th { "outcome" } th.n { "events" } }
                @for (side, outcomes) in sides {
                    @for (outcome, count) in outcomes { tr { td { (side) } td { (outcome) } td.n { (count) } } }
                }
            }
        }
    }
}

fn priority_moves(report: &ReplayReport) -> Markup {
    html! {
        @if !report.priority_moves.is_empty() {
            h2 { "Priority changes" }
            table {
                tr { th { "before" } th { "after" } th.n { "notifications" } }
                @for moved in &report.priority_moves {
                    tr { td { (moved.before) } td { (moved.after) } td.n { (moved.count) } }
                }
            }
        }
    }
}

fn changed_fields(report: &ReplayReport) -> Markup {
    html! {
        @if !report.changed_fields.is_empty() {
            h2 { "Fields that differ" }
            table {
                tr { th { "field" } th.n { "notifications" } }
                @for field in &report.changed_fields { tr { td { (field.field) } td.n { (field.count) } } }
            }
        }
    }
}

fn recipients(report: &ReplayReport) -> Markup {
    html! {
        @if !report.recipients.is_empty() {
            h2 { "Recipients most affected" }
            table {
                tr { th { "recipient" } th.n.added { "added" } th.n.removed { "removed" } th.n.changed { "changed" } }
                @for of in &report.recipients {
                    tr { td { (of.recipient) } td.n { (of.added) } td.n { (of.removed) } td.n { (of.changed) } }
                }
            }
        }
    }
}

fn samples(report: &ReplayReport) -> Markup {
    html! {
        @if !report.samples.is_empty() {
            h2 { "Examples" }
            table {
                tr { th { "" } th { "event" } th { "recipient" } th { "type" } th { "priority" } th { "fields" } }
                @for sample in &report.samples {
                    tr {
                        td class=(sample.kind) { (sample.kind) }
                        td { code { (sample.event_id) } }
                        td { (sample.recipient) } td { (sample.notification_type) } td { (sample.priority) }
                        td {
                            @for field in &sample.fields {
                                div { (field.field) ": " code { (field.before) } " → " code { (field.after) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn round(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}
