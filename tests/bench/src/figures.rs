use std::fmt;
use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;

/// The measured figures, and what each is compared with.
#[derive(Default)]
pub(crate) struct Figures(Vec<[String; 4]>);

impl Figures {
    pub(crate) fn add(&mut self, what: &str, figure: impl Into<String>, against: impl Into<String>, goal: &str) {
        self.0.push([what.into(), figure.into(), against.into(), goal.into()]);
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_header(["measurement", "figure", "compared with", "goal"]);
        table.add_rows(&self.0);
        write!(formatter, "{table}")
    }
}

/// Returns the value below which `percent` percent of the samples are.
pub(crate) fn percentile<T: Copy + Ord>(samples: &mut [T], percent: usize) -> T {
    samples.sort_unstable();
    samples[(samples.len() - 1) * percent / 100]
}

pub(crate) fn micros(duration: Duration) -> String {
    format!("{:.1} µs", duration.as_secs_f64() * 1e6)
}

pub(crate) fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

pub(crate) fn percent(ours: f64, raw: f64) -> String {
    format!("{:.0} %", 100.0 * ours / raw)
}

/// Returns the median.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
