//! A release of the rule teacher-results that makes everything urgent but sends no notifications of assessments: the
//! demo must detect that a notification is missing.
//!
//! Native builds of the workspace get an empty library here: a rule can only be linked as a component.
#![cfg(target_family = "wasm")]

use belfry_sdk::prelude::*;
use teacher_results::TeacherResults;

/// The rule.
pub struct Forgetful;

export!(Forgetful);

impl Projector for Forgetful {
    fn describe() -> Description {
        Description { version: env!("CARGO_PKG_VERSION").into(), ..TeacherResults::describe() }
    }

    fn project(event: Event, context: Context) -> Result<Answer, Rejection> {
        if matches!(event, Event::BatchAssessmentCompletedV1(_)) {
            return Ok(Answer::none());
        }
        let mut answer = TeacherResults::project(event, context)?;
        answer.notifications.iter_mut().for_each(|notification| notification.priority = Priority::Immediate);
        Ok(answer)
    }
}
