//! The payloads that clients show. The platform's current clients rely on every field.

use belfry_sdk::prelude::*;
use serde::{Serialize, Serializer};

#[derive(Serialize)]
pub(crate) struct ResultsPayload<'a> {
    batch_id: &'a str,
    total_essays: i64,
    completed_essays: i64,
    overall_status: &'a str,
    processing_duration_seconds: f64,
    #[serde(serialize_with = "by_name")]
    phase_results: &'a [PhaseResult],
    message: String,
}

impl<'a> ResultsPayload<'a> {
    pub(crate) fn of(batch: &'a BatchResultsReadyV1) -> Self {
        Self {
            batch_id: &batch.batch_id,
            total_essays: batch.total_essays,
            completed_essays: batch.completed_essays,
            overall_status: &batch.overall_status,
            processing_duration_seconds: batch.processing_duration_seconds,
            phase_results: &batch.phase_results,
            message: format!(
                "Batch {} processing completed with {}/{} essays",
                batch.batch_id, batch.completed_essays, batch.total_essays
            ),
        }
    }
}

#[derive(Serialize)]
struct Phase<'a> {
    status: &'a str,
    completed_count: i64,
    failed_count: i64,
    processing_time_seconds: Option<f64>,
}

fn by_name<S: Serializer>(phases: &[PhaseResult], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(phases.iter().map(|phase| {
        let summary = Phase {
            status: &phase.status,
            completed_count: phase.completed_count,
            failed_count: phase.failed_count,
            processing_time_seconds: phase.processing_time_seconds,
        };
        (&phase.name, summary)
    }))
}

#[derive(Serialize)]
pub(crate) struct AssessmentPayload<'a> {
    batch_id: &'a str,
    assessment_job_id: &'a str,
    rankings_available: bool,
    rankings_count: usize,
    message: String,
}

impl<'a> AssessmentPayload<'a> {
    pub(crate) fn of(assessment: &'a BatchAssessmentCompletedV1) -> Self {
        Self {
            batch_id: &assessment.batch_id,
            assessment_job_id: &assessment.assessment_job_id,
            rankings_available: !assessment.rankings.is_empty(),
            rankings_count: assessment.rankings.len(),
            message: format!("Comparative judgment assessment completed for batch {}", assessment.batch_id),
        }
    }
}
