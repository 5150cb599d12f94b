use std::env;
use std::fmt::Write as _;
use std::path::Path;

use crate::{CaseReport, Suite};

/// Whether `BELFRY_UPDATE=1` asks to accept what comes out.
pub fn update_requested() -> bool {
    env::var_os("BELFRY_UPDATE").is_some_and(|value| value == "1")
}

/// Run all cases of a folder against a component, for `cargo test`:
///
/// ```ignore
/// #[test]
/// fn cases() {
///     belfry_testkit::assert_cases(COMPONENT, Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/cases")));
/// }
/// ```
///
/// With `BELFRY_UPDATE=1` the cases are rewritten to expect what came out.
///
/// # Panics
///
/// With the whole report, if the component is not taken, there are no cases, or one of them fails.
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
        writeln!(text, "{report}").expect("a string takes everything");
    }
    text.push_str("if what came out is right, accept it with BELFRY_UPDATE=1");
    text
}
