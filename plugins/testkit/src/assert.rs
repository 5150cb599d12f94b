use std::env;
use std::fmt::Write as _;
use std::path::Path;

use crate::{CaseReport, Suite};

/// Returns whether `BELFRY_UPDATE=1` is set, which accepts the actual results.
pub fn update_requested() -> bool {
    env::var_os("BELFRY_UPDATE").is_some_and(|value| value == "1")
}

/// Runs all cases of a folder against a component, for `cargo test`:
///
/// ```ignore
/// #[test]
/// fn cases() {
///     belfry_testkit::assert_cases(COMPONENT, Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/cases")));
/// }
/// ```
///
/// With `BELFRY_UPDATE=1` the cases are rewritten to expect the actual results.
///
/// # Panics
///
/// Panics with the whole report if the component is refused, there are no cases, or a case fails.
#[track_caller]
pub fn assert_cases(component: &[u8], directory: &Path) {
    let suite = Suite::load(component).unwrap_or_else(|error| panic!("the component cannot be tested: {error}"));
    let reports = suite
        .run_dir(directory, update_requested(), None)
        .unwrap_or_else(|error| panic!("nothing was tested: {error}"));
    let failures = reports.iter().filter(|report| report.verdict.is_failure()).count();
    assert!(failures == 0, "{}", summary(&reports, failures));
}

fn summary(reports: &[CaseReport], failures: usize) -> String {
    let mut text = format!("{failures} of {} cases failed\n", reports.len());
    for report in reports {
        writeln!(text, "{report}").expect("writing to a string never fails");
    }
    text.push_str("if the results are right, accept them with BELFRY_UPDATE=1");
    text
}
