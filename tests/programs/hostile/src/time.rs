//! Takes time.

use std::hint::spin_loop;
use std::time::Duration;

use belfry_sdk::prelude::*;

use crate::Answer;
use crate::answer::well_formed;

/// Never answers.
pub(crate) fn endless_loop(_: &Context) -> Answer {
    loop {
        spin_loop();
    }
}

/// Answers after an hour, by its own clock: a host in which sleeping returns at once gets the notification at once.
pub(crate) fn sleep(_: &Context) -> Answer {
    std::thread::sleep(Duration::from_secs(60 * 60));
    Ok(vec![well_formed()])
}
