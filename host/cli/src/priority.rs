//! Priorities as people see them.

use owo_colors::Style;

/// The width of the longest priority's name.
pub const PRIORITY_WIDTH: usize = 9;

/// A priority in its colour, padded so that columns line up. Names that are not known stay plain.
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
