//! Display of priorities.

use owo_colors::Style;

/// The length of the longest priority name, in characters.
pub const PRIORITY_WIDTH: usize = 9;

/// Returns a priority in its colour, padded so that columns line up. Unknown names have no colour.
pub fn coloured_priority(priority: &str) -> String {
    let style = match priority {
        "low" => Style::new().dimmed(),
        "standard" => Style::new().green(),
        "high" => Style::new().yellow(),
        "immediate" => Style::new().red(),
        "critical" => Style::new().red().bold().reversed(),
        _ => Style::new(),
    };
    style.style(format!("{:<PRIORITY_WIDTH$}", crate::escape::escape(priority))).to_string()
}
