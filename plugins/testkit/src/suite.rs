use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use belfry_model::{Cause, Envelope, Message, MessageSettings, Notification};
use belfry_sandbox::{
    Answer, Class, Compiler, Configuration, Limits, LogLine, NotAdmitted, Projection, Projector, Sandbox, SandboxError,
    SandboxSettings,
};

use crate::accept::with_expectation;
use crate::case_directory::case_files;
use crate::case_file::{Case, case_name};
use crate::compare::differences;
use crate::{
    CaseError, CaseReport, CasesError, Expectation, ExpectedNotification, ExpectedRejection, Measurement, Verdict,
};

/// The platform's categories, which are the host's defaults.
const CATEGORIES: [&str; 6] = [
    "batch_progress",
    "processing_results",
    "file_operations",
    "class_management",
    "student_workflow",
    "system_alerts",
];
/// The topic of notifications, which counts towards a finished message's size.
const TOPIC: &str = "huleedu.notification.teacher.requested.v1";
/// Maximum number of calls before measuring, after which caches and pools are as in a host that has been running.
const MAX_WARM_UP: usize = 100;

/// The reason why a component cannot be tested.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The sandbox cannot start on this machine.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The host would refuse the component.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
}

/// A component in the host's sandbox with the host's limits, ready to run cases.
pub struct Suite {
    projector: Projector,
}

/// A case with everything that the rule sees.
struct Prepared {
    case: Case,
    configuration: Arc<Configuration>,
}

/// The actual result of a case.
struct Obtained {
    answer: Expectation,
    /// The reason from the rule or the sandbox, if the result is not notifications.
    note: Option<String>,
}

impl Suite {
    /// Loads a component as a host with default settings would.
    pub fn load(component: &[u8]) -> Result<Self, LoadError> {
        let sandbox = Sandbox::new(SandboxSettings {
            concurrency: 1,
            native: Limits::of(Class::Native),
            dynamic: Limits::of(Class::Dynamic),
            categories: CATEGORIES.map(str::to_owned).to_vec(),
            cache_directory: None,
            compiler: Compiler::Here,
        })?;
        Ok(Self { projector: sandbox.load(component)? })
    }

    /// Returns the loaded component.
    pub fn projector(&self) -> &Projector {
        &self.projector
    }

    /// Runs one case. With `update`, a case that fails or expects nothing is rewritten to expect the actual result.
    pub fn run_case(&self, path: &Path, update: bool) -> CaseReport {
        let began = Instant::now();
        let mut log = Vec::new();
        let verdict = self.verdict(path, update, &mut log).unwrap_or_else(|error| Verdict::Broken(error.to_string()));
        CaseReport { name: case_name(path), duration: began.elapsed(), verdict, log }
    }

    /// Runs the cases of a folder whose names contain `filter`, sorted by name. Returns an error if there are none.
    pub fn run_dir(&self, directory: &Path, update: bool, filter: Option<&str>) -> Result<Vec<CaseReport>, CasesError> {
        Ok(case_files(directory, filter)?.iter().map(|path| self.run_case(path, update)).collect())
    }

    /// Measures the cost of a case's event over `iterations` calls (at least one) in fresh instances. The case's
    /// expectation is ignored.
    pub fn measure_case(&self, path: &Path, iterations: usize) -> Result<Measurement, CaseError> {
        let Prepared { case, configuration } = self.prepare(path)?;
        let project = || self.projector.project(&configuration, &case.envelope, &case.event);
        for _ in 0..iterations.min(MAX_WARM_UP) {
            project();
        }
        let first = project();
        let mut outcome = first.outcome();
        let mut timings = vec![first.timings];
        while timings.len() < iterations {
            let projection = project();
            outcome = projection.outcome();
            timings.push(projection.timings);
        }
        Ok(Measurement::of(case_name(path), outcome, &timings))
    }

    /// Measures the cases of a folder as [`Suite::measure_case`] does. Each yields a measurement, or the reason why
    /// there is none.
    pub fn measure_dir(
        &self,
        directory: &Path,
        iterations: usize,
    ) -> Result<Vec<Result<Measurement, CaseError>>, CasesError> {
        Ok(case_files(directory, None)?.iter().map(|path| self.measure_case(path, iterations)).collect())
    }

    fn verdict(&self, path: &Path, update: bool, log: &mut Vec<LogLine>) -> Result<Verdict, CaseError> {
        let Prepared { case, configuration } = self.prepare(path)?;
        if case.expect.is_none() && !update {
            return Err(CaseError::NothingExpected(path.to_owned()));
        }
        let projection = self.projector.project(&configuration, &case.envelope, &case.event);
        let obtained = self.obtained(&projection, &case.envelope);
        *log = projection.log;
        let found =
            case.expect.as_ref().map(|expected| differences(expected, &obtained.answer, obtained.note.as_deref()));
        match found {
            Some(found) if found.is_empty() => Ok(Verdict::Passed),
            Some(found) if !update => Ok(Verdict::Failed(found)),
            _ => {
                let not_a_case = |error| CaseError::NotACase(path.to_owned(), error);
                let text = with_expectation(&case.text, &obtained.answer).map_err(not_a_case)?;
                fs::write(path, text).map_err(|error| CaseError::Unwritable(path.to_owned(), error))?;
                Ok(Verdict::Updated)
            }
        }
    }

    fn prepare(&self, path: &Path) -> Result<Prepared, CaseError> {
        let case = Case::read(path)?;
        let subscriptions = &self.projector.description().subscriptions;
        if !subscriptions.iter().any(|subscription| subscription.event_type == case.envelope.event_type) {
            return Err(CaseError::NotSubscribed {
                path: path.to_owned(),
                event_type: case.envelope.event_type.clone(),
                wanted: subscriptions.iter().map(|one| one.event_type.as_str()).collect::<Vec<_>>().join(", "),
            });
        }
        let configuration = self
            .projector
            .configure(&case.config)
            .map_err(|refused| CaseError::Configuration(path.to_owned(), refused.to_string()))?;
        Ok(Prepared { case, configuration: Arc::new(configuration) })
    }

    fn obtained(&self, projection: &Projection, envelope: &Envelope) -> Obtained {
        let failed =
            |outcome, detail: &str| Obtained { answer: Expectation::Outcome(outcome), note: Some(detail.to_owned()) };
        match &projection.answer {
            Answer::Notifications(notifications) => match self.finish(notifications, envelope) {
                Ok(()) => Obtained {
                    answer: Expectation::Notifications(notifications.iter().map(ExpectedNotification::from).collect()),
                    note: None,
                },
                Err(refusal) => failed(refusal.outcome, &refusal.detail),
            },
            Answer::Rejected(rejection) => Obtained {
                answer: Expectation::Rejection(ExpectedRejection { code: rejection.code.clone() }),
                note: Some(format!("{}: {}", rejection.code, rejection.reason)),
            },
            Answer::Failed(failure) => failed(failure.outcome, &failure.detail),
        }
    }

    /// Checks the size of the finished messages, since the host refuses an answer if one of them is too large.
    fn finish(&self, notifications: &[Notification], envelope: &Envelope) -> Result<(), belfry_model::Refusal> {
        let description = self.projector.description();
        let release = format!("{}@{}#1", description.name, description.version);
        let settings = MessageSettings { topic: TOPIC.to_owned(), source_service: None };
        notifications.iter().try_for_each(|notification| {
            let cause = Cause { projector: &description.name, release: &release };
            Message::finish(notification, envelope, cause, &settings).map(drop)
        })
    }
}
