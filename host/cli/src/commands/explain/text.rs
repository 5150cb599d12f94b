//! Explanations in words.

use std::fmt::Write as _;

use serde_json::Value;

use crate::client::wire::{EventHistory, Message, NotificationHistory};
use crate::escape::escape;
use crate::output::{counted, table};
use crate::priority::coloured_priority;

/// Where a notification comes from, one fact a line.
pub(super) fn notification(history: &NotificationHistory) -> String {
    let mut text = Facts::headed(&format!("notification {}", history.event_id));
    match history.position {
        Some(position) => {
            text.add("status", &format!("{} at {}, position {position}", history.status, history.recorded_at))
        }
        None => {
            let reason = history.reason.as_deref().unwrap_or("no reason given");
            text.add("status", &format!("{} at {}: {}", history.status, history.recorded_at, explained(reason)));
        }
    }
    text.add("recipient", &history.recipient);
    text.add("made by", &history.release);
    if let Some(message) = history.message.as_ref().and_then(|raw| Message::parse(raw.get()).ok()) {
        text.add("type", &message.data.notification_type);
        text.add_styled("priority", coloured_priority(&message.data.priority).trim_end());
        if let Some(words) = message.text() {
            text.add("message", words);
        }
        if let Some(deadline) = &message.data.deadline_timestamp {
            text.add("deadline", deadline);
        }
    }
    match &history.cause {
        Some(cause) => {
            text.add("because of", &format!("event {}", cause.event_id));
            text.add("", &cause.event_type);
            text.add("", &format!("happened {} at {}", cause.event_timestamp, cause.source_service));
            text.add("", &format!("recorded {}, position {}", cause.recorded_at, cause.position));
            text.add("correlation", &cause.correlation_id.to_string());
        }
        None => text.add("because of", "an event that is no longer kept"),
    }
    text.0
}

/// What became of an event.
pub(super) fn event(history: &EventHistory) -> String {
    let mut text = Facts::headed(&format!("event {}", history.event_id));
    text.add("type", &history.event_type);
    text.add("recorded", &format!("{}, position {}", history.recorded_at, history.position));
    let envelope = history.event.as_ref().and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    for (name, field) in
        [("happened", "event_timestamp"), ("source", "source_service"), ("correlation", "correlation_id")]
    {
        if let Some(value) = envelope.as_ref().and_then(|envelope| envelope.get(field)?.as_str()) {
            text.add(name, value);
        }
    }
    let mut text = text.0;
    section(&mut text, "what each rule made of it", &projections(history));
    section(&mut text, "notifications", &notifications(history));
    section(&mut text, "withheld", &withheld(history));
    section(&mut text, "dead letters", &dead_letters(history));
    text
}

fn projections(history: &EventHistory) -> String {
    match history.projections.as_deref().unwrap_or_default() {
        [] => "nothing: no rule that served then had subscribed to it".to_owned(),
        projections => table(
            ["release", "outcome", "returned"],
            projections.iter().map(|projection| {
                let unnamed = || format!("{}#{}", projection.projector, projection.release_id);
                let release = if projection.release.is_empty() { unnamed() } else { projection.release.clone() };
                [release, projection.outcome.clone(), counted(projection.count as usize, "notification")]
            }),
        ),
    }
}

fn notifications(history: &EventHistory) -> String {
    if history.notifications.is_empty() {
        return String::new();
    }
    let rows = history.notifications.iter().map(|notification| {
        let id = notification.event_id.to_string();
        [notification.position.to_string(), id, notification.recipient.clone(), notification.release.clone()]
    });
    table(["position", "id", "recipient", "made by"], rows)
}

fn withheld(history: &EventHistory) -> String {
    if history.withheld.is_empty() {
        return String::new();
    }
    let rows = history.withheld.iter().map(|withheld| {
        let id = withheld.event_id.to_string();
        let reason = explained(&withheld.reason);
        [id, withheld.recipient.clone(), withheld.release.clone(), reason, withheld.decided_at.clone()]
    });
    table(["id", "recipient", "made by", "why", "decided"], rows)
}

fn dead_letters(history: &EventHistory) -> String {
    if history.dead_letters.is_empty() {
        return String::new();
    }
    let rows = history.dead_letters.iter().map(|letter| {
        [
            letter.id.to_string(),
            letter.release.clone().or_else(|| letter.source.clone()).unwrap_or_default(),
            letter.cause.clone(),
            letter.detail.clone(),
            letter.created_at.clone(),
        ]
    });
    table(["number", "by", "cause", "detail", "recorded"], rows)
}

/// A word of the vocabulary with what it means.
fn explained(reason: &str) -> String {
    match reason {
        "expired" => "expired: its time had passed when it was to be sent".to_owned(),
        "already-issued" => "already-issued: this very notification was sent before".to_owned(),
        other => other.to_owned(),
    }
}

fn section(text: &mut String, title: &str, content: &str) {
    if content.is_empty() {
        return;
    }
    let _ = write!(text, "\n  {title}\n");
    for line in content.lines() {
        let _ = writeln!(text, "    {line}");
    }
}

/// Named facts under a heading, a line each.
struct Facts(String);

impl Facts {
    fn headed(heading: &str) -> Self {
        Self(format!("{heading}\n"))
    }

    fn add(&mut self, name: &str, fact: &str) {
        self.add_styled(name, &escape(fact));
    }

    /// As `add`, for what is escaped already and has its colours.
    fn add_styled(&mut self, name: &str, fact: &str) {
        let _ = writeln!(self.0, "  {name:<12}{fact}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{
        "event_id": "a25fb85b-a5b0-523c-993b-2dc42602b95d", "event_type": "t.v1", "position": 12,
        "recorded_at": "2026-03-02T09:15:02Z",
        "event": {"event_timestamp": "2026-03-02T09:15:01Z", "source_service": "s\u001b"},
        "projections": [{"projector": "p", "release": "p@1.0.0#1", "release_id": 1, "outcome": "notifications", "count": 2}],
        "notifications": [{"event_id": "fe17901f-b267-53fc-ab06-b54d181baae1", "position": 13, "projector": "p",
            "release": "p@1.0.0#1", "recipient": "teacher-anna", "message": null}],
        "withheld": [{"event_id": "9ed9938b-bc6f-530a-a76b-c4bf50c811a8", "projector": "p", "release": "p@1.0.0#1",
            "recipient": "teacher-björn", "reason": "expired", "decided_at": "2026-03-02T09:15:02Z"}],
        "dead_letters": [{"id": 5, "projector": "q", "release": "q@2.0.0#3", "cause": "trapped", "detail": "unreachable",
            "created_at": "2026-03-02T09:15:02Z"}]
    }"#;

    #[test]
    fn an_event_is_told_with_everything_that_came_of_it() {
        let text = event(&serde_json::from_str(EVENT).expect("a history"));
        for expected in [
            "event a25fb85b",
            "happened    2026-03-02T09:15:01Z",
            r"source      s\u{1b}",
            "p@1.0.0#1  notifications  2 notifications",
            "fe17901f-b267-53fc-ab06-b54d181baae1  teacher-anna",
            "expired: its time had passed",
            "q@2.0.0#3  trapped  unreachable",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
    }

    #[test]
    fn silence_is_explained() {
        let mut history: EventHistory = serde_json::from_str(EVENT).expect("a history");
        history.projections = None;
        history.withheld.clear();
        let text = event(&history);
        assert!(text.contains("no rule that served then had subscribed to it"), "{text}");
        assert!(!text.contains("withheld"), "{text}");
    }

    #[test]
    fn a_withheld_notification_says_why() {
        let history = serde_json::from_str(
            r#"{"event_id": "fe17901f-b267-53fc-ab06-b54d181baae1", "status": "withheld", "reason": "expired",
            "position": null, "recorded_at": "r", "projector": "p", "release": "p@1.0.0#1", "release_id": 1,
            "recipient": "teacher-anna", "message": null, "cause": null}"#,
        );
        let text = notification(&history.expect("a history"));
        assert!(text.contains("withheld at r: expired: its time had passed"), "{text}");
        assert!(text.contains("an event that is no longer kept"), "{text}");
    }
}
