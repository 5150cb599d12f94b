use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use belfry_model::{Envelope, Event, JsonObject, Malformed};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Expectation;

/// The reason why a case cannot be run. It is never the rule's fault.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// A file is missing or not readable.
    #[error("cannot read {0}: {1}; an event's path is relative to the case's folder")]
    Unreadable(PathBuf, io::Error),
    /// The updated case cannot be written.
    #[error("cannot write {0}: {1}; make it writable, or run without updating")]
    Unwritable(PathBuf, io::Error),
    /// The file is not a case.
    #[error("{0} is not a case: {1}; a case has `event`, `config` and `expect`")]
    NotACase(PathBuf, serde_json::Error),
    /// The event is neither a valid envelope nor the path of one.
    #[error("{0}: the host refuses this event: {1}; correct the event")]
    Malformed(PathBuf, Malformed),
    /// The rule does not subscribe to events of this type.
    #[error(
        "{path}: the rule does not subscribe to {event_type}, so the host would never pass it on; it subscribes to {wanted}"
    )]
    NotSubscribed {
        /// The case.
        path: PathBuf,
        /// The event's type.
        event_type: String,
        /// The types that the rule subscribes to.
        wanted: String,
    },
    /// The rule or the host refuses the configuration.
    #[error("{0}: the configuration is refused: {1}; correct `config`")]
    Configuration(PathBuf, String),
    /// The case has no expectation to compare with.
    #[error("{0} has no `expect`; write one, or accept the result with --update or BELFRY_UPDATE=1")]
    NothingExpected(PathBuf),
}

/// A case, parsed and checked as far as that is possible without the rule.
pub(crate) struct Case {
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) event: Event,
    pub(crate) config: JsonObject,
    pub(crate) expect: Option<Expectation>,
    /// The file's text, needed to update the expectation.
    pub(crate) text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile<'a> {
    /// Kept as text: the rule must see the event's data exactly as the file has it.
    #[serde(borrow)]
    event: &'a RawValue,
    #[serde(default)]
    config: JsonObject,
    #[serde(default)]
    expect: Option<Expectation>,
}

impl Case {
    pub(crate) fn read(path: &Path) -> Result<Self, CaseError> {
        let text = read(path)?;
        let not_a_case = |error| CaseError::NotACase(path.to_owned(), error);
        let file: CaseFile<'_> = serde_json::from_str(&text).map_err(not_a_case)?;
        let (envelope, event) = match serde_json::from_str::<String>(file.event.get()) {
            Ok(relative) => {
                let event_path = path.parent().unwrap_or(Path::new("")).join(relative);
                parse_event(&event_path, &read(&event_path)?)?
            }
            Err(_) => parse_event(path, file.event.get())?,
        };
        Ok(Self { envelope: Arc::new(envelope), event, config: file.config, expect: file.expect, text })
    }
}

/// Returns the name under which a case is reported: its file name without the extension.
pub(crate) fn case_name(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn read(path: &Path) -> Result<String, CaseError> {
    fs::read_to_string(path).map_err(|error| CaseError::Unreadable(path.to_owned(), error))
}

fn parse_event(path: &Path, text: &str) -> Result<(Envelope, Event), CaseError> {
    let malformed = |malformed| CaseError::Malformed(path.to_owned(), malformed);
    let envelope = Envelope::parse(text.as_bytes()).map_err(malformed)?;
    let event = Event::from_envelope(&envelope).map_err(malformed)?;
    Ok((envelope, event))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        match serde_json::from_str::<CaseFile<'_>>(text) {
            Ok(_) => panic!("{text} was accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn misspelt_names_are_errors_and_named() {
        assert!(error(r#"{"event":{},"expects":{}}"#).contains("`expects`"));
        assert!(error(r#"{"event":{},"expect":{"notification":[]}}"#).contains("`notification`"));
        assert!(error(r#"{"event":{},"expect":{"rejection":{"code":"a","reason":"b"}}}"#).contains("`reason`"));
        let notification =
            r#"{"recipient":"a","notification_type":"b","category":"c","priority":"low","payload":{},"teacher":1}"#;
        let text = format!(r#"{{"event":{{}},"expect":{{"notifications":[{notification}]}}}}"#);
        assert!(error(&text).contains("`teacher`"));
    }

    #[test]
    fn only_failures_are_expected_by_outcome() {
        let text = r#"{"event":{},"expect":{"outcome":"trapped"}}"#;
        assert!(serde_json::from_str::<CaseFile<'_>>(text).is_ok());
        assert!(error(r#"{"event":{},"expect":{"outcome":"rejected"}}"#).contains("`rejection`"));
        assert!(error(r#"{"event":{},"expect":{"outcome":"slow"}}"#).contains("timed-out"));
    }

    #[test]
    fn an_event_keeps_its_text() {
        let text = r#"{"event": {"n": 1.50}, "config": {"a": 1}}"#;
        let file: CaseFile<'_> = serde_json::from_str(text).expect("a case");
        assert_eq!(file.event.get(), r#"{"n": 1.50}"#);
        assert!(file.expect.is_none());
    }
}
