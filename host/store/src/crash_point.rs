//! Named places where a test may let the process die, wait or fail. They exist only in builds with the feature `failpoints`;
//! everywhere else they are nothing.

/// Die here, as if the power were cut, when the environment's `FAILPOINTS` says so: `commit.before-lock=1%return`.
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {
        $crate::fail::fail_point!($name, |_| std::process::abort());
    };
}

/// Fail here with this error when the environment's `FAILPOINTS` says so: `commit.rolled-back=20%return`.
#[macro_export]
macro_rules! failure_point {
    ($name:literal, $error:expr) => {
        $crate::fail::fail_point!($name, |_| Err($error));
    };
}

/// Let the environment's `FAILPOINTS` count from now on.
#[cfg(feature = "failpoints")]
pub fn arm_crash_points() {
    // It would disarm them when it is dropped.
    std::mem::forget(fail::FailScenario::setup());
}

/// There are none in this build.
#[cfg(not(feature = "failpoints"))]
pub const fn arm_crash_points() {}
