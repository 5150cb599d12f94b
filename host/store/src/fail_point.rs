//! Named failpoints where a test can make the process crash, wait or fail. They exist only in builds with the feature
//! `failpoints`; in all other builds they compile to nothing.

/// Aborts the process, as a power failure would, if the environment variable `FAILPOINTS` enables this point:
/// `commit.before-lock=1%return`.
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {
        $crate::fail::fail_point!($name, |_| std::process::abort());
    };
}

/// Returns this error if the environment variable `FAILPOINTS` enables this point: `commit.rolled-back=20%return`.
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! failure_point {
    ($name:literal, $error:expr) => {
        $crate::fail::fail_point!($name, |_| Err($error));
    };
}

/// Does nothing: this build has no failpoints.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {};
}

/// Does nothing: this build has no failpoints.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! failure_point {
    ($name:literal, $error:expr) => {};
}

/// Enables the failpoints that the environment variable `FAILPOINTS` lists.
#[cfg(feature = "failpoints")]
pub fn arm_crash_points() {
    // Dropping the scenario would disable them.
    std::mem::forget(fail::FailScenario::setup());
}

/// Does nothing: this build has no failpoints.
#[cfg(not(feature = "failpoints"))]
pub const fn arm_crash_points() {}
