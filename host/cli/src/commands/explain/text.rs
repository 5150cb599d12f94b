//! Explanations as text.

use std::fmt::Write as _;

use serde_json::Value;

use crate::client::wire::{EventHistory, Message, NotificationDelivery, NotificationHistory, NotificationMaker, Rerun};
use crate::escape::escape;
use crate::output::{counted, table};
use crate::priority::coloured_priority;

/// Describes the origin of a notification, one fact per line.
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
    if let Some(expires_at) = &history.expires_at {
        text.add("expires", &format!("{expires_at}; not sent later"));
    }
    text.add("recipient", &history.recipient);
    text.add("made by", &history.release);
    if let Some(made_by) = &history.made_by {
        maker(&mut text, made_by);
    }
    deliveries(&mut text, &history.deliveries);
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
            if let Some(trace) = &cause.traceparent {
                text.add("trace", trace);
            }
        }
        None => text.add("because of", "an event that is no longer kept"),
    }
    text.0
}

fn maker(text: &mut Facts, maker: &NotificationMaker) {
    if let (Some(by), Some(at)) = (&maker.activated_by, &maker.activated_at) {
        let how = if maker.canary { "as a canary by" } else { "by" };
        text.add("", &format!("serving since {at}, activated {how} {by}"));
    }
    text.add("", &format!("pushed {} by {}: {}", maker.pushed_at, maker.pushed_by, maker.note));
    text.add("", &format!("component sha256:{}", maker.digest));
    if let Some(config) = &maker.config {
        text.add("", &format!("configuration {}", config.get()));
    }
    if let Some(contract) = &maker.contract {
        text.add("", &format!("contract {contract}"));
    }
}

fn deliveries(text: &mut Facts, deliveries: &[NotificationDelivery]) {
    for delivery in deliveries {
        let at = delivery.at.as_ref().map_or_else(String::new, |at| match delivery.state.as_str() {
            "acknowledged" => format!(" by {at}"),
            _ => format!(" at {at}"),
        });
        let detail = delivery.detail.as_ref().map_or_else(String::new, |detail| format!(", {detail}"));
        let state = match delivery.state.as_str() {
            "before-the-sink" => "not for this sink: recorded before it was enabled",
            "expired" => "skipped as expired",
            state => state,
        };
        text.add("sink", &format!("{}: {state}{at}{detail}", delivery.sink));
    }
}

/// Lists the reruns of an event and the differences that they found.
pub(super) fn reruns(reruns: &[Rerun]) -> String {
    let mut text = String::new();
    let rows = reruns.iter().map(|rerun| {
        let verdict = match rerun.same {
            Some(true) => "the same",
            Some(false) => "DIFFERS",
            None => "unknown",
        };
        [rerun.release.clone(), rerun.then.clone(), rerun.now.clone(), verdict.to_owned()]
    });
    section(&mut text, "projected again", &table(["release", "then", "now", ""], rows));
    let differing = reruns.iter().flat_map(|rerun| &rerun.differences).flat_map(|different| {
        let about = [different.notification_id.to_string(), different.difference.clone()];
        let fields =
            different.fields.iter().map(|field| format!("{}: {} → {}", field.field, field.before, field.after));
        let fields = if different.fields.is_empty() { vec![String::new()] } else { fields.collect() };
        fields.into_iter().map(move |field| [about[0].clone(), about[1].clone(), field])
    });
    let differing: Vec<[String; 3]> = differing.collect();
    if !differing.is_empty() {
        section(&mut text, "differences", &table(["notification", "", "field"], differing));
    }
    text
}

/// Describes the outcome of an event.
pub(super) fn event(history: &EventHistory) -> String {
    let mut text = Facts::headed(&format!("event {}", history.event_id));
    text.add("type", &history.event_type);
    text.add("recorded", &format!("{}, position {}", history.recorded_at, history.position));
    if let Some(source) = &history.source {
        text.add("read at", source);
    }
    let envelope = history.event.as_ref().and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    for (name, field) in
        [("happened", "event_timestamp"), ("source", "source_service"), ("correlation", "correlation_id")]
    {
        if let Some(value) = envelope.as_ref().and_then(|envelope| envelope.get(field)?.as_str()) {
            text.add(name, value);
        }
    }
    let mut text = text.0;
    section(&mut text, "projections", &projections(history));
    section(&mut text, "notifications", &notifications(history));
    section(&mut text, "withheld", &withheld(history));
    section(&mut text, "dead letters", &dead_letters(history));
    text
}

fn projections(history: &EventHistory) -> String {
    match history.projections.as_deref().unwrap_or_default() {
        [] => "none: no rule that was active then had subscribed to it".to_owned(),
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

/// Returns a reason for withholding with its meaning, if it is known.
fn explained(reason: &str) -> String {
    match reason {
        "expired" => "expired: its expiry time had passed when it was due".to_owned(),
        "already-issued" => "already-issued: the same notification was issued before".to_owned(),
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

/// Named facts under a heading, one per line.
struct Facts(String);

impl Facts {
    fn headed(heading: &str) -> Self {
        Self(format!("{heading}\n"))
    }

    fn add(&mut self, name: &str, fact: &str) {
        self.add_styled(name, &escape(fact));
    }

    /// Adds a fact that is already escaped and coloured.
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
            "expired: its expiry time had passed",
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
        assert!(text.contains("no rule that was active then had subscribed to it"), "{text}");
        assert!(!text.contains("withheld"), "{text}");
    }

    #[test]
    fn a_withheld_notification_says_why() {
        let history = serde_json::from_str(
            r#"{"event_id": "fe17901f-b267-53fc-ab06-b54d181baae1", "status": "withheld", "reason": "expired",
            "position": null, "recorded_at": "r", "projector": "p", "release": "p@1.0.0#1", "release_id": 1,
            "recipient": "teacher-anna", "message": null, "cause": null, "made_by": null, "deliveries": []}"#,
        );
        let text = notification(&history.expect("a history"));
        assert!(text.contains("withheld at r: expired: its expiry time had passed"), "{text}");
        assert!(text.contains("an event that is no longer kept"), "{text}");
    }
}
