//! Named places where a test may let the process die, wait or fail, and safeguards that a test may switch off. Both exist only in
//! builds with the features `failpoints` and `sabotage`; everywhere else they are nothing.

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

/// Whether a test has switched a safeguard off, by naming it in the environment's `BELFRY_SABOTAGE`.
#[cfg(feature = "sabotage")]
pub fn sabotaged(safeguard: &str) -> bool {
    std::env::var("BELFRY_SABOTAGE").is_ok_and(|named| named.split(',').any(|name| name == safeguard))
}

/// Whether a test has switched a safeguard off: never in this build.
#[cfg(not(feature = "sabotage"))]
pub const fn sabotaged(_: &str) -> bool {
    false
}
