use crate::{Answer, Notification};

impl Answer {
    /// Returns an answer without notifications: there is no one to notify.
    pub fn none() -> Self {
        Self { notifications: Vec::new(), withdrawals: Vec::new() }
    }
}

impl From<Vec<Notification>> for Answer {
    fn from(notifications: Vec<Notification>) -> Self {
        Self { notifications, withdrawals: Vec::new() }
    }
}

impl From<Notification> for Answer {
    fn from(notification: Notification) -> Self {
        vec![notification].into()
    }
}

impl FromIterator<Notification> for Answer {
    fn from_iter<I: IntoIterator<Item = Notification>>(notifications: I) -> Self {
        notifications.into_iter().collect::<Vec<_>>().into()
    }
}
