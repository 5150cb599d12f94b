//! Conditions under which a replay fails the command.

use std::str::FromStr;

use crate::client::replay_report::ReplayReport;

/// A condition under which the command fails, such as `removed>0` or `changed>=5%`.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    text: String,
    figure: Figure,
    comparison: Comparison,
    bound: f64,
    /// Whether the bound is a percentage: of the baseline's notifications, or of the projected events for figures that
    /// count events.
    percent: bool,
}

/// The figure that is compared with the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    Added,
    Removed,
    Changed,
    /// Events on which the sides differ.
    Events,
    /// Events on which the candidate fails.
    Failures,
    /// Events that the candidate rejects.
    Rejections,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
}

/// A text that is not a condition.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be one of added, removed, changed, events, failures and rejections, then >, >=, < or <=, then a number or a \
     percentage, such as removed>0 or changed>5%"
)]
pub struct InvalidGate;

impl FromStr for Gate {
    type Err = InvalidGate;

    fn from_str(text: &str) -> Result<Self, InvalidGate> {
        // Longer signs first: they begin with the shorter ones.
        let signs = [
            (">=", Comparison::AtLeast),
            ("<=", Comparison::AtMost),
            (">", Comparison::Above),
            ("<", Comparison::Below),
        ];
        let (sign, comparison) = signs.into_iter().find(|(sign, _)| text.contains(sign)).ok_or(InvalidGate)?;
        let (figure, bound) = text.split_once(sign).ok_or(InvalidGate)?;
        let figure = match figure.trim() {
            "added" => Figure::Added,
            "removed" => Figure::Removed,
            "changed" => Figure::Changed,
            "events" => Figure::Events,
            "failures" => Figure::Failures,
            "rejections" => Figure::Rejections,
            _ => return Err(InvalidGate),
        };
        let bound = bound.trim();
        let (number, percent) = bound.strip_suffix('%').map_or((bound, false), |number| (number, true));
        let bound: f64 = number.trim().parse().map_err(|_| InvalidGate)?;
        if !bound.is_finite() || bound < 0.0 {
            return Err(InvalidGate);
        }
        Ok(Self { text: text.to_owned(), figure, comparison, bound, percent })
    }
}

impl Gate {
    /// Returns the condition with the actual figure if the condition holds for the report.
    pub fn stops(&self, report: &ReplayReport) -> Option<String> {
        let sums = report.notifications;
        let of_candidate = |rejected: bool| -> u64 {
            let outcomes = report.not_projected.candidate.iter();
            outcomes.filter(|(outcome, _)| (*outcome == "rejected") == rejected).map(|(_, count)| count).sum()
        };
        let (count, all) = match self.figure {
            Figure::Added => (sums.added, sums.baseline),
            Figure::Removed => (sums.removed, sums.baseline),
            Figure::Changed => (sums.changed, sums.baseline),
            Figure::Events => (report.events.differing, report.events.projected),
            Figure::Failures => (of_candidate(false), report.events.projected),
            Figure::Rejections => (of_candidate(true), report.events.projected),
        };
        let found = if self.percent { percent(count, all) } else { count as f64 };
        let stops = match self.comparison {
            Comparison::Above => found > self.bound,
            Comparison::AtLeast => found >= self.bound,
            Comparison::Below => found < self.bound,
            Comparison::AtMost => found <= self.bound,
        };
        let found = if self.percent { format!("{count} of {all}, {found:.2} %") } else { count.to_string() };
        stops.then(|| format!("{}: {found}", self.text))
    }
}

/// Returns `count` as a percentage of `all`. Any positive count of zero is 100 %.
fn percent(count: u64, all: u64) -> f64 {
    match (count, all) {
        (0, _) => 0.0,
        (_, 0) => 100.0,
        (count, all) => count as f64 / all as f64 * 100.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> ReplayReport {
        serde_json::from_value(serde_json::json!({
            "projector": "p", "candidate": "p@2#2", "baseline": "p@1#1", "from": "", "to": "",
            "events": {"found": 200, "passed_over": 100, "projected": 100, "unreadable": 0, "differing": 5},
            "notifications": {"baseline": 200, "candidate": 202, "same": 190, "added": 4, "removed": 2, "changed": 8},
            "not_projected": {"baseline": {}, "candidate": {"rejected": 3, "trapped": 1, "timed-out": 1}},
            "kinds": [], "priority_moves": [], "changed_fields": [], "recipients": [], "recipients_affected": 0,
            "volume": [], "samples": [], "seconds": 1.0, "events_per_second": 100.0
        }))
        .expect("a report")
    }

    #[test]
    fn conditions_are_about_numbers_and_shares() {
        for (text, stops) in [
            ("removed>0", true),
            ("removed > 2", false),
            ("removed>=2", true),
            ("removed<=1", false),
            ("added>2%", false),
            ("added>=2%", true),
            ("changed>3.9%", true),
            ("events>5%", false),
            ("failures>1", true),
            ("rejections>3", false),
            ("added<5", true),
        ] {
            let gate: Gate = text.parse().expect("a condition");
            assert_eq!(gate.stops(&report()).is_some(), stops, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "removed", "lost>0", "removed>", "removed>x", "removed>-1", "removed>nan", "removed=0", ">0"] {
            assert_eq!(text.parse::<Gate>(), Err(InvalidGate), "{text}");
        }
    }

    #[test]
    fn anything_of_nothing_is_everything() {
        assert_eq!((percent(0, 0), percent(3, 0), percent(1, 4)), (0.0, 100.0, 25.0));
    }
}
