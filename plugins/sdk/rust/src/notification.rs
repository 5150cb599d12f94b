use serde::Serialize;

use crate::{Instant, Notification, Priority};

impl Notification {
    /// A notification to a teacher: of standard priority, with an empty payload, for information only.
    pub fn to(teacher: impl Into<String>) -> Self {
        Self {
            recipient: teacher.into(),
            notification_type: String::new(),
            category: String::new(),
            priority: Priority::Standard,
            payload: "{}".into(),
            key: String::new(),
            action_required: false,
            deadline: None,
            batch_id: None,
            class_id: None,
            not_before: None,
            expires_at: None,
            policies: Vec::new(),
        }
    }

    /// What kind of message it is: its `notification-type`.
    #[must_use]
    pub fn kind(mut self, notification_type: impl Into<String>) -> Self {
        self.notification_type = notification_type.into();
        self
    }

    /// The area it belongs to; one of the host's configured categories.
    #[must_use]
    pub fn category(mut self, category: impl Into<String>) -> Self {
        self.category = category.into();
        self
    }

    /// How urgent it is.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// What the client shows: anything that serialises to a JSON object.
    ///
    /// # Panics
    /// If it cannot be written as JSON, such as a map whose keys are not texts.
    #[must_use]
    pub fn payload(mut self, payload: &impl Serialize) -> Self {
        self.payload = serde_json::to_string(payload).expect("a payload that can be written as JSON");
        self
    }

    /// Tells apart several notifications of one kind to one teacher about one event. Never a list position.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = key.into();
        self
    }

    /// The teacher has to do something, by then if a time is given.
    #[must_use]
    pub fn action_required(mut self, deadline: Option<Instant>) -> Self {
        self.action_required = true;
        self.deadline = deadline;
        self
    }

    /// The batch of essays it concerns.
    #[must_use]
    pub fn batch(mut self, batch_id: impl Into<String>) -> Self {
        self.batch_id = Some(batch_id.into());
        self
    }

    /// The class it concerns.
    #[must_use]
    pub fn class(mut self, class_id: impl Into<String>) -> Self {
        self.class_id = Some(class_id.into());
        self
    }

    /// Do not send it after this time.
    #[must_use]
    pub fn expires_at(mut self, expires_at: Instant) -> Self {
        self.expires_at = Some(expires_at);
        self
    }
}
