//! Tests of a component before it may be activated: what it is, what it needs, and whether it returns the same answer
//! when it gets the same event twice.

use std::sync::Arc;
use std::time::Duration;

use belfry_model::{Envelope, Event, Outcome};
use serde::{Deserialize, Serialize};

use crate::admission::contract;
use crate::{Answer, Caller, Class, Configuration, NotAdmitted, Projection, Projector, Reason};

/// Sample events that every host has for testing rules. Events of other types are made from `OTHER`.
const SAMPLES: [(&str, &str); 4] = [
    ("results-ready", include_str!("samples/results-ready.json")),
    ("results-ready-with-failures", include_str!("samples/results-ready-with-failures.json")),
    ("assessment-completed", include_str!("samples/assessment-completed.json")),
    ("assessment-without-rankings", include_str!("samples/assessment-without-rankings.json")),
];
const OTHER: &str = include_str!("samples/other.json");
/// Maximum number of other types for which an event is made. A rule that subscribes to more is tested with the first
/// ones.
const MAX_OTHERS: usize = 8;

/// The findings about a component with a configuration, collected before it may be activated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdmissionReport {
    /// The contract that it was built against.
    pub contract: String,
    /// The names of its imports.
    pub imports: Vec<String>,
    /// The event types that it subscribes to.
    pub event_types: Vec<String>,
    /// Size of the component, in bytes.
    pub component_bytes: usize,
    /// Size of the compiled component, in bytes.
    pub compiled_bytes: usize,
    /// How long compiling took, in milliseconds.
    pub compile_ms: f64,
    /// Its class, which determines its limits.
    pub class: Class,
    /// Memory limit of its class for one call, in bytes.
    pub memory_limit_bytes: usize,
    /// Time limit of its class for one call, in milliseconds.
    pub deadline_ms: u64,
    /// Results of the samples whose types it subscribes to.
    pub samples: Vec<SampleRun>,
}

/// The result of a sample event that was projected twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleRun {
    /// The sample's name.
    pub sample: String,
    /// Its event type.
    pub event_type: String,
    /// The outcome.
    pub outcome: Outcome,
    /// The number of notifications.
    pub notifications: usize,
    /// Duration of the first and of the second run, in microseconds.
    pub project_us: [f64; 2],
    /// Memory at the end of the run, in bytes.
    pub memory_bytes: usize,
}

struct Sample {
    name: String,
    envelope: Arc<Envelope>,
    event: Event,
}

impl Projector {
    /// Tests the component with the samples that it subscribes to, each twice. A component whose answers differ is
    /// refused: its notifications could be neither explained nor predicted.
    pub fn try_out(&self, configuration: &Arc<Configuration>) -> Result<AdmissionReport, NotAdmitted> {
        let event_types: Vec<String> =
            self.description().subscriptions.iter().map(|wanted| wanted.event_type.clone()).collect();
        let run = |sample: &Sample| {
            let project = || self.project_for(Caller::Beside, configuration, &sample.envelope, &sample.event);
            compare(sample, &project(), &project())
        };
        let samples = samples(&event_types).iter().map(run).collect::<Result<_, _>>()?;
        let compilation = self.compilation();
        Ok(AdmissionReport {
            contract: contract(),
            imports: self.imports().to_vec(),
            event_types,
            component_bytes: compilation.component_bytes,
            compiled_bytes: compilation.compiled_bytes,
            compile_ms: rounded(compilation.time, 1e3),
            class: self.class(),
            memory_limit_bytes: self.limits().memory_bytes,
            deadline_ms: u64::try_from(self.limits().deadline.as_millis()).unwrap_or(u64::MAX),
            samples,
        })
    }
}

/// Returns the samples of these event types.
fn samples(event_types: &[String]) -> Vec<Sample> {
    let sample = |name: &str, text: &str| {
        let envelope = Arc::new(Envelope::parse(text.as_bytes()).expect("a sample is an envelope"));
        let event = Event::from_envelope(&envelope).expect("a sample is an event");
        Sample { name: name.to_owned(), envelope, event }
    };
    let known: Vec<Sample> = SAMPLES.iter().map(|(name, text)| sample(name, text)).collect();
    let is_known = |event_type: &&String| known.iter().any(|sample| sample.envelope.event_type == event_type.as_str());
    let others: Vec<Sample> = event_types
        .iter()
        .filter(|event_type| !is_known(event_type))
        .take(MAX_OTHERS)
        .map(|event_type| {
            let name = serde_json::to_string(event_type).expect("a string always serializes to JSON");
            sample("made-up", &OTHER.replace("\"TYPE\"", &name))
        })
        .collect();
    known.into_iter().filter(|sample| event_types.contains(&sample.envelope.event_type)).chain(others).collect()
}

fn compare(sample: &Sample, first: &Projection, second: &Projection) -> Result<SampleRun, NotAdmitted> {
    if !same(&first.answer, &second.answer) {
        let detail = format!(
            "returns different answers to the same event (sample {}: {}, then {}); a rule must depend only on the event \
             and its configuration",
            sample.name,
            summary(&first.answer),
            summary(&second.answer)
        );
        return Err(NotAdmitted::new(Reason::NotDeterministic, detail));
    }
    let total = |projection: &Projection| {
        let timings = projection.timings;
        rounded(timings.instantiate + timings.call + timings.drop, 1e6)
    };
    // On a busy host one of them may time out.
    let worse = if matches!(second.answer, Answer::Failed(_)) { second } else { first };
    Ok(SampleRun {
        sample: sample.name.clone(),
        event_type: sample.envelope.event_type.clone(),
        outcome: worse.outcome(),
        notifications: if let Answer::Notifications(made) = &worse.answer { made.len() } else { 0 },
        project_us: [total(first), total(second)],
        memory_bytes: first.timings.memory_bytes.max(second.timings.memory_bytes),
    })
}

/// Returns whether two answers are the same: notifications and rejections byte for byte, failures by their outcome. A
/// timeout is the same as any answer, since whether a call gets its time also depends on the host.
fn same(first: &Answer, second: &Answer) -> bool {
    let timed_out = |answer: &Answer| matches!(answer, Answer::Failed(failure) if failure.outcome == Outcome::TimedOut);
    match (first, second) {
        (first, second) if timed_out(first) || timed_out(second) => true,
        (Answer::Notifications(first), Answer::Notifications(second)) => first == second,
        (Answer::Rejected(first), Answer::Rejected(second)) => first == second,
        (Answer::Failed(first), Answer::Failed(second)) => first.outcome == second.outcome,
        _ => false,
    }
}

/// Summarizes an answer without quoting it.
fn summary(answer: &Answer) -> String {
    match answer {
        Answer::Notifications(notifications) => format!("{} notifications", notifications.len()),
        Answer::Rejected(rejection) => format!("a rejection {}", rejection.code),
        Answer::Failed(failure) => failure.outcome.to_string(),
    }
}

/// Returns a duration in units of 1/`units` of a second, rounded to a tenth.
fn rounded(duration: Duration, units: f64) -> f64 {
    (duration.as_secs_f64() * units * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Failure, Rejection, Timings};

    fn projection(answer: Answer) -> Projection {
        Projection { answer, log: Vec::new(), timings: Timings::default(), starved: false }
    }

    fn rejected(reason: &str) -> Projection {
        projection(Answer::Rejected(Rejection { code: "odd".into(), reason: reason.into() }))
    }

    fn failed(outcome: Outcome) -> Projection {
        projection(Answer::Failed(Failure { outcome, detail: "anything".into() }))
    }

    #[test]
    fn a_rule_is_tried_with_what_it_subscribes_to() {
        let of = |event_types: &[&str]| {
            let event_types: Vec<String> = event_types.iter().map(|&text| text.to_owned()).collect();
            samples(&event_types).into_iter().map(|sample| sample.name).collect::<Vec<_>>()
        };
        let ready = "huleedu.ras.batch.results.ready.v1";
        assert_eq!(of(&[ready]), ["results-ready", "results-ready-with-failures"]);
        assert_eq!(of(&["acme \" closed.v1", ready]), ["results-ready", "results-ready-with-failures", "made-up"]);
    }

    #[test]
    fn another_answer_to_the_same_event_is_refused() {
        let sample = samples(&["any.v1".to_owned()]).remove(0);
        let refused = |first: &Projection, second: &Projection| match compare(&sample, first, second) {
            Err(refused) => refused.reason == Reason::NotDeterministic,
            Ok(_) => false,
        };
        let silence = || projection(Answer::Notifications(Vec::new()));
        assert!(!refused(&silence(), &silence()));
        assert!(!refused(&rejected("a"), &rejected("a")));
        assert!(refused(&rejected("a"), &rejected("b")), "one byte is enough");
        assert!(refused(&silence(), &rejected("a")));
        assert!(refused(&silence(), &failed(Outcome::Trapped)));
        assert!(refused(&failed(Outcome::MemoryLimit), &failed(Outcome::Trapped)));
        assert!(!refused(&silence(), &failed(Outcome::TimedOut)), "a timeout may be the host's fault");
    }
}
