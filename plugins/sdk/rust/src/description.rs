use serde::Serialize;

use crate::{ConfigKey, Description, Rejection, Subscription};

impl Description {
    /// A rule that wants no events yet and has no settings. `version` is best `env!("CARGO_PKG_VERSION")`.
    pub fn new(name: &str, version: &str, summary: &str) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            summary: summary.into(),
            subscriptions: Vec::new(),
            config: Vec::new(),
            requires: Vec::new(),
        }
    }

    /// Ask for an event type. The subject is the data's `user_id`, else the partition key, else the event's id.
    #[must_use]
    pub fn subscribe(mut self, event_type: &str) -> Self {
        self.subscriptions.push(Subscription { event_type: event_type.into(), subject: None });
        self
    }

    /// Ask for an event type whose subject stands at an RFC 6901 pointer into its data.
    #[must_use]
    pub fn subscribe_by(mut self, event_type: &str, subject: &str) -> Self {
        self.subscriptions.push(Subscription { event_type: event_type.into(), subject: Some(subject.into()) });
        self
    }

    /// Declare a setting that a release must give.
    #[must_use]
    pub fn required_config(mut self, name: &str, help: &str) -> Self {
        self.config.push(ConfigKey { name: name.into(), required: true, default: None, help: help.into() });
        self
    }

    /// Declare a setting that a release may give.
    #[must_use]
    pub fn config(mut self, name: &str, default: &impl Serialize, help: &str) -> Self {
        let default = serde_json::to_string(default).expect("a default that can be written as JSON");
        self.config.push(ConfigKey { name: name.into(), required: false, default: Some(default), help: help.into() });
        self
    }
}

impl Rejection {
    /// The event makes no sense: `code` in kebab-case to group by, `reason` for people.
    pub fn new(code: &str, reason: impl Into<String>) -> Self {
        Self { code: code.into(), reason: reason.into() }
    }
}
