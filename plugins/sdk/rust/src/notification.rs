use serde::Serialize;

use crate::{Instant, Notification, Priority};

impl Notification {
    /// Creates a notification to a teacher, with standard priority, an empty payload and no required action.
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
            thread: None,
            not_before: None,
            expires_at: None,
            policies: Vec::new(),
        }
    }

    /// Sets the `notification-type`, such as `batch_results_ready`.
    #[must_use]
    pub fn kind(mut self, notification_type: impl Into<String>) -> Self {
        self.notification_type = notification_type.into();
        self
    }

    /// Sets the category, one of the host's configured categories.
    #[must_use]
    pub fn category(mut self, category: impl Into<String>) -> Self {
        self.category = category.into();
        self
    }

    /// Sets the priority.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Sets the payload, which the client shows: any value that serializes to a JSON object.
    ///
    /// # Panics
    ///
    /// Panics if the payload cannot be serialized to JSON, such as a map whose keys are not strings.
    #[must_use]
    pub fn payload(mut self, payload: &impl Serialize) -> Self {
        self.payload = serde_json::to_string(payload).expect("a payload that serializes to JSON");
        self
    }

    /// Sets the key, which distinguishes several notifications of one type to one teacher about one event. Never use a
    /// position in a list.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = key.into();
        self
    }

    /// Marks the notification as requiring action, by `deadline` if there is one.
    #[must_use]
    pub fn action_required(mut self, deadline: Option<Instant>) -> Self {
        self.action_required = true;
        self.deadline = deadline;
        self
    }

    /// Sets the batch of essays that the notification concerns.
    #[must_use]
    pub fn batch(mut self, batch_id: impl Into<String>) -> Self {
        self.batch_id = Some(batch_id.into());
        self
    }

    /// Sets the class that the notification concerns.
    #[must_use]
    pub fn class(mut self, class_id: impl Into<String>) -> Self {
        self.class_id = Some(class_id.into());
        self
    }

    /// Sets the matter that the notification is about, across events, such as `batch:42`.
    #[must_use]
    pub fn thread(mut self, thread: impl Into<String>) -> Self {
        self.thread = Some(thread.into());
        self
    }

    /// Sets the time after which the notification is not sent.
    #[must_use]
    pub fn expires_at(mut self, expires_at: Instant) -> Self {
        self.expires_at = Some(expires_at);
        self
    }
}
