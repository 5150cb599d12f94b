//! The rules bundled with Belfry pass their cases. The repository of a rule has a test like these.

use std::path::Path;

use belfry_artifacts::{TEACHER_RESULTS, URGENT_FAILURES};
use belfry_testkit::assert_cases;

#[test]
fn teacher_results_keeps_its_cases() {
    assert_cases(TEACHER_RESULTS, Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/teacher-results/cases")));
}

#[test]
fn urgent_failures_keeps_its_cases() {
    let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/examples/urgent-failures/cases");
    assert_cases(URGENT_FAILURES, Path::new(cases));
}
