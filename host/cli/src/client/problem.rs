use std::fmt;

use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const PREFIX: &str = "urn:belfry:problem:";

/// Why a request was refused: RFC 9457 problem details.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A URN that names the kind; see [`Problem::kind`].
    #[serde(rename = "type")]
    pub type_urn: String,
    /// The kind in words.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// What happened, to what, and what to do next.
    #[serde(default)]
    pub detail: String,
    /// An RFC 6901 pointer to the invalid value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// The id of the event concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<Uuid>,
}

impl Problem {
    /// Creates a problem for a refusal without a reason.
    pub(super) fn unexplained(status: StatusCode) -> Self {
        let title = "no reason was given; see the server's log".to_owned();
        Self { type_urn: format!("status {status}"), title, status: status.as_u16(), ..Self::default() }
    }

    /// Returns the kind, such as `malformed-event`.
    pub fn kind(&self) -> &str {
        self.type_urn.strip_prefix(PREFIX).unwrap_or(&self.type_urn)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.kind())?;
        match self.pointer.as_deref() {
            None | Some("") => {}
            Some(pointer) => write!(formatter, "{pointer}: ")?,
        }
        formatter.write_str(if self.detail.is_empty() { &self.title } else { &self.detail })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_where_and_why() {
        let text = r#"{"type":"urn:belfry:problem:malformed-event","title":"Malformed event","status":400,"detail":"missing","pointer":"/data/user_id"}"#;
        let problem: Problem = serde_json::from_str(text).expect("a problem");
        assert_eq!(problem.to_string(), "malformed-event: /data/user_id: missing");
        assert_eq!(serde_json::to_string(&problem).expect("JSON"), text);
        let without = Problem { pointer: Some(String::new()), detail: String::new(), ..problem };
        assert_eq!(without.to_string(), "malformed-event: Malformed event");
    }
}
