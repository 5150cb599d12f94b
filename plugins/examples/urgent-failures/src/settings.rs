use belfry_sdk::prelude::*;

const DEADLINE_HOURS: &str = "deadline_hours";
const FAILURE_MESSAGE: &str = "failure_message";

const DEFAULT_DEADLINE_HOURS: i64 = 24;
const DEFAULT_FAILURE_MESSAGE: &str = "{failed} of {total} essays in batch {batch_id} need your attention";

/// A year. A deadline beyond it is a slip of the keyboard.
const MAX_DEADLINE_HOURS: i64 = 8760;

/// What a release may configure.
pub(crate) struct Settings {
    deadline_hours: i64,
    /// With placeholders, see [`crate::wording::fill`].
    pub(crate) failure_message: String,
}

impl Settings {
    /// Add the settings to a description.
    pub(crate) fn declare(description: Description) -> Description {
        description
            .config(
                DEADLINE_HOURS,
                &DEFAULT_DEADLINE_HOURS,
                "Within how many hours of the event a batch with failures has to be looked at, at most 8760.",
            )
            .config(
                FAILURE_MESSAGE,
                &DEFAULT_FAILURE_MESSAGE,
                "What the teacher reads; {batch_id}, {failed}, {total} and {completed} are filled in.",
            )
    }

    /// Read the release's settings. The error is fit for the person who made the release.
    pub(crate) fn read() -> Result<Self, String> {
        let deadline_hours = config::get(DEADLINE_HOURS)?.unwrap_or(DEFAULT_DEADLINE_HOURS);
        if !(1..=MAX_DEADLINE_HOURS).contains(&deadline_hours) {
            return Err(format!("{DEADLINE_HOURS}: must be a whole number from 1 to {MAX_DEADLINE_HOURS}"));
        }
        let failure_message = config::get(FAILURE_MESSAGE)?.unwrap_or_else(|| DEFAULT_FAILURE_MESSAGE.to_owned());
        Ok(Self { deadline_hours, failure_message })
    }

    /// The time a teacher has.
    pub(crate) fn deadline_ms(&self) -> i64 {
        self.deadline_hours * 60 * 60 * 1000
    }
}
