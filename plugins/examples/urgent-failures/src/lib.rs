//! A changed release of the rule `teacher-results`: a batch with failures is urgent and requires action.
//!
//! It shows how to change a rule without redeploying anything: build on the previous release, keep its name, raise the
//! version. The name is part of every notification's identity, so a teacher whom the previous release notified is not
//! notified again.
//!
//! Native builds of the workspace get an empty library here: a rule can only be linked as a component.
#![cfg(target_family = "wasm")]

use belfry_sdk::prelude::*;
use teacher_results::TeacherResults;

mod failed_batch;
mod settings;
mod wording;

use failed_batch::FailedBatch;
use settings::Settings;

/// The rule `teacher-results` 1.0.0, with changes for batches with failures.
pub struct UrgentFailures;

export!(UrgentFailures);

impl Projector for UrgentFailures {
    fn describe() -> Description {
        let unchanged = TeacherResults::describe();
        let changed = Description {
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "Notifies a teacher of results and assessments; a batch with failures requires action.".into(),
            ..unchanged
        };
        Settings::declare(changed)
    }

    fn check_config() -> Result<(), String> {
        Settings::read().map(|_| ())
    }

    fn project(event: Event, context: Context) -> Result<Answer, Rejection> {
        let failed_batch = FailedBatch::find(&event);
        let occurred_at = context.occurred_at;
        let mut answer = TeacherResults::project(event, context)?;
        let Some(batch) = failed_batch else { return Ok(answer) };
        let settings = Settings::read().map_err(|error| Rejection::new("invalid-config", error))?;
        let plain = std::mem::take(&mut answer.notifications);
        answer.notifications = plain.into_iter().map(|plain| urgent(plain, &batch, &settings, occurred_at)).collect();
        Ok(answer)
    }
}

fn urgent(plain: Notification, batch: &FailedBatch, settings: &Settings, occurred_at: Instant) -> Notification {
    let payload = wording::with_message(&plain.payload, &wording::fill(&settings.failure_message, batch));
    let deadline = occurred_at.saturating_add(settings.deadline_ms());
    plain.priority(Priority::Immediate).action_required(Some(deadline)).payload(&payload)
}
