//! The types of Belfry's HTTP API. Fields that a newer Belfry adds are ignored.

mod events;
mod notifications;
mod releases;

pub use events::{
    DeadLetter, EventHistory, IssuedNotification, Projection, PublishStatus, Published, PublishedDeadLetter,
    PublishedNotification, WithheldNotification,
};
pub(super) use notifications::Reruns;
pub use notifications::{
    Message, NotificationCause, NotificationDelivery, NotificationHistory, NotificationMaker, Rerun, RerunDifference,
};
pub use releases::{Halt, Parked, Pause, Release, Rollout};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_status_is_a_refusal() {
        let text = r#"{"line":1,"event_id":null,"status":"unheard-of","position":null}"#;
        let published: Published = serde_json::from_str(text).expect("a line");
        assert_eq!(published.status, PublishStatus::Refused);
        assert!(published.status.is_refusal());
    }

    #[test]
    fn a_history_keeps_the_event_s_text() {
        let text = r#"{"event_id":"a25fb85b-a5b0-523c-993b-2dc42602b95d","event_type":"t","position":1,"recorded_at":"r","event":{"n": 1.50},"projections":null,"added_later":1}"#;
        let history: EventHistory = serde_json::from_str(text).expect("a history");
        assert_eq!(history.event.expect("an event").get(), r#"{"n": 1.50}"#);
    }

    #[test]
    fn a_message_s_text_is_its_payload_s() {
        let message = |payload: &str| {
            let text = format!(
                r#"{{"event_id":"fe17901f-b267-53fc-ab06-b54d181baae1","event_timestamp":"2026-03-02T09:15:01Z","data":{{"teacher_id":"a","notification_type":"b","category":"c","priority":"high","payload":{payload},"action_required":false,"deadline_timestamp":null,"correlation_id":"d","batch_id":null,"class_id":null,"timestamp":"t"}}}}"#
            );
            Message::parse(&text).expect("a message")
        };
        assert_eq!(message(r#"{"message":"done"}"#).text(), Some("done"));
        assert_eq!(message(r#"{"message":1}"#).text(), None);
    }
}
