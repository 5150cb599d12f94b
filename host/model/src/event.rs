use serde_json::{Map, Value};

use crate::decimal::exact_integer;
use crate::envelope::{escape, without_nul};
use crate::json_pointer::number_text;
use crate::{Envelope, Malformed};

/// The event type, which is also the topic, of [`BatchResultsReadyV1`].
pub const BATCH_RESULTS_READY_V1: &str = "huleedu.ras.batch.results.ready.v1";
/// The event type, which is also the topic, of [`BatchAssessmentCompletedV1`].
pub const BATCH_ASSESSMENT_COMPLETED_V1: &str = "huleedu.ras.batch.assessment.completed.v1";

/// The data of an envelope, as typed by the contract with projectors.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// All essays of a batch completed all phases.
    BatchResultsReadyV1(BatchResultsReadyV1),
    /// The comparative judgment of a batch is done.
    BatchAssessmentCompletedV1(BatchAssessmentCompletedV1),
    /// A type that has no record in the contract; the data stays in the envelope.
    Other,
}

/// All essays of a batch completed all phases.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the contract in wit/ documents the fields, in the same words for every language")]
pub struct BatchResultsReadyV1 {
    pub batch_id: String,
    pub user_id: String,
    pub total_essays: i64,
    pub completed_essays: i64,
    pub overall_status: String,
    pub processing_duration_seconds: f64,
    pub phase_results: Vec<PhaseResult>,
}

/// The result of one phase.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the contract in wit/ documents the fields, in the same words for every language")]
pub struct PhaseResult {
    pub name: String,
    pub status: String,
    pub completed_count: i64,
    pub failed_count: i64,
    pub processing_time_seconds: Option<f64>,
}

/// The comparative judgment of a batch is done.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the contract in wit/ documents the fields, in the same words for every language")]
pub struct BatchAssessmentCompletedV1 {
    pub batch_id: String,
    pub user_id: String,
    pub assessment_job_id: String,
    pub rankings: Vec<Ranking>,
}

/// One essay's rank. The producer guarantees none of the fields.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the contract in wit/ documents the fields, in the same words for every language")]
pub struct Ranking {
    pub essay_id: Option<String>,
    pub rank: Option<i64>,
    pub score: Option<f64>,
    pub letter_grade: Option<String>,
    pub confidence_score: Option<f64>,
    pub confidence_label: Option<String>,
}

impl Event {
    /// Parses the data according to the event's type. Fields that the contract does not define are ignored.
    pub fn from_envelope(envelope: &Envelope) -> Result<Self, Malformed> {
        Self::read(envelope).map_err(|malformed| Malformed { event_id: Some(envelope.event_id), ..malformed })
    }

    fn read(envelope: &Envelope) -> Result<Self, Malformed> {
        match envelope.event_type.as_str() {
            BATCH_RESULTS_READY_V1 => batch_results_ready(Record::of(envelope)?).map(Self::BatchResultsReadyV1),
            BATCH_ASSESSMENT_COMPLETED_V1 => {
                batch_assessment_completed(Record::of(envelope)?).map(Self::BatchAssessmentCompletedV1)
            }
            _ => {
                without_nul("/data/user_id", envelope.data_str("user_id").unwrap_or_default())?;
                Ok(Self::Other)
            }
        }
    }
}

fn batch_results_ready(data: Record<'_>) -> Result<BatchResultsReadyV1, Malformed> {
    Ok(BatchResultsReadyV1 {
        batch_id: data.id("batch_id")?,
        user_id: data.id("user_id")?,
        total_essays: data.integer("total_essays")?,
        completed_essays: data.integer("completed_essays")?,
        overall_status: data.text("overall_status")?,
        processing_duration_seconds: data.number("processing_duration_seconds")?,
        phase_results: phase_results(&data)?,
    })
}

fn phase_results(data: &Record<'_>) -> Result<Vec<PhaseResult>, Malformed> {
    let phases = data.required("phase_results")?;
    let pointer = data.pointer("phase_results");
    let phases = phases.as_object().ok_or_else(|| Malformed::at(&*pointer, "must be an object"))?;
    phases
        .iter()
        .map(|(name, phase)| {
            let phase = data.inner(format!("{pointer}/{}", escape(name)), phase)?;
            Ok(PhaseResult {
                name: name.clone(),
                status: phase.text("status")?,
                completed_count: phase.integer("completed_count")?,
                failed_count: phase.integer("failed_count")?,
                processing_time_seconds: phase.optional_number("processing_time_seconds")?,
            })
        })
        .collect()
}

fn batch_assessment_completed(data: Record<'_>) -> Result<BatchAssessmentCompletedV1, Malformed> {
    let rankings = data.required("rankings_summary")?;
    let pointer = data.pointer("rankings_summary");
    let rankings = rankings.as_array().ok_or_else(|| Malformed::at(&*pointer, "must be a list"))?;
    Ok(BatchAssessmentCompletedV1 {
        batch_id: data.id("batch_id")?,
        user_id: data.id("user_id")?,
        assessment_job_id: data.text("assessment_job_id")?,
        rankings: rankings
            .iter()
            .enumerate()
            .map(|(place, entry)| data.inner(format!("{pointer}/{place}"), entry).map(|entry| ranking(&entry)))
            .collect::<Result<_, _>>()?,
    })
}

/// Reads a ranking. The producer defines no schema for it, so a field of an unexpected type counts as absent.
fn ranking(entry: &Record<'_>) -> Ranking {
    let get = |name: &str| entry.fields.get(name);
    let text = |name: &str| get(name).and_then(Value::as_str).map(str::to_owned);
    Ranking {
        essay_id: text("essay_id"),
        rank: get("rank").and_then(|rank| entry.exact("rank", rank)),
        score: get("score").and_then(Value::as_f64),
        letter_grade: text("letter_grade"),
        confidence_score: get("confidence_score").and_then(Value::as_f64),
        confidence_label: text("confidence_label"),
    }
}

const DATA: &str = "/data";

/// A JSON object whose fields are looked up by name, with the pointer to it.
struct Record<'a> {
    pointer: String,
    fields: &'a Map<String, Value>,
    /// The text of the event's data.
    data_text: &'a str,
}

impl<'a> Record<'a> {
    fn of(envelope: &'a Envelope) -> Result<Self, Malformed> {
        Self::new(DATA.to_owned(), &envelope.data, &envelope.data_text)
    }

    fn new(pointer: String, value: &'a Value, data_text: &'a str) -> Result<Self, Malformed> {
        match value.as_object() {
            Some(fields) => Ok(Self { pointer, fields, data_text }),
            None => Err(Malformed::at(pointer, "must be an object")),
        }
    }

    fn inner(&self, pointer: String, value: &'a Value) -> Result<Self, Malformed> {
        Self::new(pointer, value, self.data_text)
    }

    fn pointer(&self, name: &str) -> String {
        format!("{}/{}", self.pointer, escape(name))
    }

    fn required(&self, name: &str) -> Result<&'a Value, Malformed> {
        self.fields
            .get(name)
            .ok_or_else(|| Malformed::at(self.pointer(name), "missing; events of this type must have it"))
    }

    fn text(&self, name: &str) -> Result<String, Malformed> {
        match self.required(name)? {
            Value::String(text) => Ok(text.clone()),
            _ => Err(Malformed::at(self.pointer(name), "must be a string")),
        }
    }

    fn id(&self, name: &str) -> Result<String, Malformed> {
        let id = self.text(name)?;
        without_nul(&self.pointer(name), &id)?;
        Ok(id)
    }

    /// Returns the value of a number if it is integral: `28.0` is 28, `"28"` is not a number.
    fn exact(&self, name: &str, value: &Value) -> Option<i64> {
        // A number with a fraction or an exponent has been rounded to a double; its text has not.
        let written_otherwise = || {
            let pointer = self.pointer(name);
            number_text(self.data_text, pointer.strip_prefix(DATA)?).and_then(exact_integer)
        };
        value.as_i64().or_else(|| value.is_f64().then(written_otherwise).flatten())
    }

    fn integer(&self, name: &str) -> Result<i64, Malformed> {
        self.exact(name, self.required(name)?)
            .ok_or_else(|| Malformed::at(self.pointer(name), "must be an integer of at most 64 bits"))
    }

    fn number(&self, name: &str) -> Result<f64, Malformed> {
        self.required(name)?.as_f64().ok_or_else(|| Malformed::at(self.pointer(name), "must be a number"))
    }

    fn optional_number(&self, name: &str) -> Result<Option<f64>, Malformed> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.number(name).map(Some),
        }
    }
}
