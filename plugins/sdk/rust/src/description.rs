use serde::Serialize;

use crate::{ConfigKey, Description, Rejection, Subscription};

impl Description {
    /// Creates the description of a rule without subscriptions and settings. Set `version` to
    /// `env!("CARGO_PKG_VERSION")`.
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

    /// Subscribes to an event type. The subject is the data's `user_id`, else the partition key, else the event's id.
    #[must_use]
    pub fn subscribe(mut self, event_type: &str) -> Self {
        self.subscriptions.push(Subscription { event_type: event_type.into(), subject: None });
        self
    }

    /// Subscribes to an event type whose subject is at `subject`, an RFC 6901 pointer into the event's data.
    #[must_use]
    pub fn subscribe_by(mut self, event_type: &str, subject: &str) -> Self {
        self.subscriptions.push(Subscription { event_type: event_type.into(), subject: Some(subject.into()) });
        self
    }

    /// Declares a required setting.
    #[must_use]
    pub fn required_config(mut self, name: &str, help: &str) -> Self {
        self.config.push(ConfigKey { name: name.into(), required: true, default: None, help: help.into() });
        self
    }

    /// Declares an optional setting with its default.
    #[must_use]
    pub fn config(mut self, name: &str, default: &impl Serialize, help: &str) -> Self {
        let default = serde_json::to_string(default).expect("a default that serializes to JSON");
        self.config.push(ConfigKey { name: name.into(), required: false, default: Some(default), help: help.into() });
        self
    }
}

impl Rejection {
    /// Creates a rejection. `code` is kebab-case, and dead letters are grouped by it; `reason` is for operators.
    pub fn new(code: &str, reason: impl Into<String>) -> Self {
        Self { code: code.into(), reason: reason.into() }
    }
}
