use serde_json::{Value, json};
use uuid::Uuid;

/// The event of a batch whose results are ready.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The event's id.
    pub event_id: Uuid,
    /// The batch's id.
    pub batch_id: String,
    /// The teacher's id.
    pub teacher: String,
    /// Number of essays that failed, out of ten.
    pub failed: i64,
}

impl Batch {
    /// Returns the batch with this number. The same number always yields the same event.
    pub fn number(number: u64) -> Self {
        Self {
            event_id: Uuid::new_v5(&Uuid::NAMESPACE_OID, &number.to_be_bytes()),
            batch_id: format!("batch-{number}"),
            teacher: format!("teacher-{}", number % 7),
            failed: 0,
        }
    }
}

/// Returns a BatchResultsReadyV1 event in its envelope.
pub fn results_ready(batch: &Batch) -> Value {
    let Batch { event_id, batch_id, teacher, failed } = batch;
    let status = if *failed == 0 { "completed_successfully" } else { "completed_with_failures" };
    json!({
        "event_id": event_id,
        "event_type": "huleedu.ras.batch.results.ready.v1",
        "event_timestamp": "2026-03-02T09:15:01Z",
        "source_service": "result_aggregator_service",
        "correlation_id": event_id,
        "data": {
            "batch_id": batch_id,
            "user_id": teacher,
            "total_essays": 10,
            "completed_essays": 10 - failed,
            "overall_status": status,
            "processing_duration_seconds": 12.5,
            "phase_results": {
                "spellcheck": {
                    "phase_name": "spellcheck", "status": "completed", "completed_count": 10, "failed_count": 0
                }
            }
        }
    })
}

/// Returns the event with a new id and new times, like a producer that generates these for each attempt.
pub fn minted_anew(mut event: Value) -> Value {
    event["event_id"] = Uuid::new_v4().to_string().into();
    event["event_timestamp"] = format!("2026-03-02T09:15:01.{:06}Z", fastrand::u32(0..1_000_000)).into();
    event["data"]["timestamp"] = event["event_timestamp"].clone();
    event
}

/// Returns a BatchAssessmentCompletedV1 event in its envelope.
pub fn assessment(event_id: Uuid, teacher: &str) -> Value {
    json!({
        "event_id": event_id,
        "event_type": "huleedu.ras.batch.assessment.completed.v1",
        "event_timestamp": "2026-03-02T09:15:03Z",
        "source_service": "result_aggregator_service",
        "data": {
            "batch_id": "batch-a", "user_id": teacher, "assessment_job_id": "job-1",
            "rankings_summary": [{ "essay_id": "essay-1", "rank": 1 }]
        }
    })
}
