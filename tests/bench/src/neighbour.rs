//! The effect on a rule of another rule that misbehaves at every event.

use std::time::Duration;

use anyhow::Result;
use belfry_tests::Neighbour;

use crate::calls;
use crate::figures::{Figures, micros, percentile};

const ROUNDS: usize = 9;
const BEHAVIOURS: [&str; 7] =
    ["endless-loop", "memory-hog", "stack-overflow", "huge-result", "million-notifications", "log-flood", "trap"];

pub(crate) async fn measure(figures: &mut Figures) -> Result<()> {
    let sandbox = calls::sandbox()?;
    let mut worst: Option<(f64, &str, Duration, Duration)> = None;
    for behaviour in BEHAVIOURS {
        let neighbour = Neighbour::new(&sandbox, behaviour);
        let (mut quiet, mut disturbed) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            quiet.push(neighbour.p99_quiet().await);
            disturbed.push(neighbour.p99_disturbed().await);
        }
        let (quiet, disturbed) = (percentile(&mut quiet, 50), percentile(&mut disturbed, 50));
        let ratio = disturbed.as_secs_f64() / quiet.as_secs_f64();
        if worst.is_none_or(|(worst, ..)| ratio > worst) {
            worst = Some((ratio, behaviour, quiet, disturbed));
        }
    }
    if let Some((ratio, behaviour, quiet, disturbed)) = worst {
        figures.add(
            "p99 of a rule next to a misbehaving one, worst of seven",
            format!("{} next to {behaviour}", micros(disturbed)),
            format!("{ratio:.1} × the undisturbed p99, {}", micros(quiet)),
            "≤ 2 ×",
        );
    }
    Ok(())
}
