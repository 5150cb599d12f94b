use belfry_sdk::prelude::*;

const DEADLINE_HOURS: &str = "deadline_hours";
const FAILURE_MESSAGE: &str = "failure_message";

const DEFAULT_DEADLINE_HOURS: i64 = 24;
const DEFAULT_FAILURE_MESSAGE: &str = "{failed} of {total} essays in batch {batch_id} need your attention";

/// One year. A longer deadline is a typing error.
const MAX_DEADLINE_HOURS: i64 = 8760;

/// The settings of a release.
pub(crate) struct Settings {
    deadline_hours: i64,
    /// The message, with placeholders; see [`crate::wording::fill`].
    pub(crate) failure_message: String,
}

impl Settings {
    /// Adds the settings to a description.
    pub(crate) fn declare(description: Description) -> Description {
        description
            .config(
                DEADLINE_HOURS,
                &DEFAULT_DEADLINE_HOURS,
                "Hours after the event by which the teacher has to act on a batch with failures, at most 8760.",
            )
            .config(
                FAILURE_MESSAGE,
                &DEFAULT_FAILURE_MESSAGE,
                "The message to the teacher; {batch_id}, {failed}, {total} and {completed} are filled in.",
            )
    }

    /// Reads the release's settings. The error is a message for the person who made the release.
    pub(crate) fn read() -> Result<Self, String> {
        let deadline_hours = config::get(DEADLINE_HOURS)?.unwrap_or(DEFAULT_DEADLINE_HOURS);
        if !(1..=MAX_DEADLINE_HOURS).contains(&deadline_hours) {
            return Err(format!("{DEADLINE_HOURS}: must be a whole number from 1 to {MAX_DEADLINE_HOURS}"));
        }
        let failure_message = config::get(FAILURE_MESSAGE)?.unwrap_or_else(|| DEFAULT_FAILURE_MESSAGE.to_owned());
        Ok(Self { deadline_hours, failure_message })
    }

    /// Returns the time that a teacher has to act, in milliseconds.
    pub(crate) fn deadline_ms(&self) -> i64 {
        self.deadline_hours * 60 * 60 * 1000
    }
}
