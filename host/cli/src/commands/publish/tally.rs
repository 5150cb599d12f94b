use std::fmt;

use crate::client::wire::{PublishStatus, Published};
use crate::output::counted;

/// Counts published events by status, with their notifications and dead letters.
#[derive(Debug, Default)]
pub(super) struct Tally {
    statuses: Vec<(PublishStatus, usize)>,
    notifications: usize,
    dead_letters: usize,
}

impl Tally {
    pub(super) fn count(&mut self, published: &Published) {
        match self.statuses.iter_mut().find(|(status, _)| *status == published.status) {
            Some((_, count)) => *count += 1,
            None => self.statuses.push((published.status, 1)),
        }
        self.notifications += published.notifications.len();
        self.dead_letters += published.dead_letters.len();
    }

    pub(super) fn events(&self) -> usize {
        self.statuses.iter().map(|(_, count)| count).sum()
    }

    pub(super) fn refused(&self) -> usize {
        self.statuses.iter().filter(|(status, _)| status.is_refusal()).map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", counted(self.events(), "event"))?;
        for (place, (status, count)) in self.statuses.iter().enumerate() {
            write!(formatter, "{} {count} {}", if place == 0 { ":" } else { "," }, status.as_str())?;
        }
        let notifications = counted(self.notifications, "notification");
        write!(formatter, "; {notifications}, {}", counted(self.dead_letters, "dead letter"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_up_in_a_sentence() {
        let mut tally = Tally::default();
        assert_eq!(tally.to_string(), "0 events; 0 notifications, 0 dead letters");
        for status in ["accepted", "conflict", "accepted"] {
            let text = format!(r#"{{"event_id":null,"status":"{status}","position":null}}"#);
            tally.count(&serde_json::from_str(&text).expect("an answer"));
        }
        assert_eq!(tally.to_string(), "3 events: 2 accepted, 1 conflict; 0 notifications, 0 dead letters");
        assert_eq!((tally.events(), tally.refused()), (3, 1));
    }
}
