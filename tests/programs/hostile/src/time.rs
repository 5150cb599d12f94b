//! Behaviours that take time.

use std::hint::spin_loop;
use std::time::{Duration, Instant};

use belfry_sdk::prelude::*;

use crate::Answer;
use crate::answer::well_formed;

/// Never answers.
pub(crate) fn endless_loop(_: &Context) -> Answer {
    loop {
        spin_loop();
    }
}

/// Answers, but takes many times as long as others.
pub(crate) fn slow(_: &Context) -> Answer {
    (0..20_000_000u32).for_each(|round| {
        std::hint::black_box(round);
    });
    Ok(vec![well_formed()].into())
}

/// Answers after an hour, by its own clock: a host in which sleeping returns at once gets the notification at once.
pub(crate) fn sleep(_: &Context) -> Answer {
    std::thread::sleep(Duration::from_secs(60 * 60));
    Ok(vec![well_formed()].into())
}

/// Sleeps until its clock is at its maximum, and reads it: a host that advances the clock from there must not overflow.
pub(crate) fn oversleep(_: &Context) -> Answer {
    std::thread::sleep(Duration::from_nanos(u64::MAX));
    std::hint::black_box(Instant::now());
    Ok(vec![well_formed()].into())
}
