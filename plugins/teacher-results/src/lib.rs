//! The default notification rule of Belfry. It notifies a teacher when a batch has completed all phases, and when its
//! comparative judgment is done.

use belfry_sdk::prelude::*;

mod payload;

use payload::{AssessmentPayload, ResultsPayload};

/// The platform's current rules, field by field.
pub struct TeacherResults;

#[cfg(feature = "component")]
export!(TeacherResults);

impl Projector for TeacherResults {
    fn describe() -> Description {
        Description::new(
            "teacher-results",
            env!("CARGO_PKG_VERSION"),
            "Notifies a teacher when a batch's results are ready, and when its assessment is done.",
        )
        .subscribe(BATCH_RESULTS_READY_V1)
        .subscribe(BATCH_ASSESSMENT_COMPLETED_V1)
    }

    fn project(event: Event, _: Context) -> Result<Answer, Rejection> {
        Ok(match event {
            Event::BatchResultsReadyV1(batch) => results_ready(batch).into(),
            Event::BatchAssessmentCompletedV1(assessment) => assessment_completed(assessment).into(),
            Event::Other(_) => Answer::none(),
        })
    }
}

fn results_ready(batch: BatchResultsReadyV1) -> Notification {
    let payload = ResultsPayload::of(&batch);
    Notification::to(batch.user_id.as_str())
        .kind("batch_results_ready")
        .category("processing_results")
        .priority(Priority::High)
        .batch(batch.batch_id.as_str())
        .payload(&payload)
}

fn assessment_completed(assessment: BatchAssessmentCompletedV1) -> Notification {
    let payload = AssessmentPayload::of(&assessment);
    Notification::to(assessment.user_id.as_str())
        .kind("batch_assessment_completed")
        .category("processing_results")
        .priority(Priority::Standard)
        .batch(assessment.batch_id.as_str())
        .payload(&payload)
}
