//! Arbitrary output of a projector, up to the messages that are sent.
#![no_main]

use std::collections::HashSet;
use std::sync::LazyLock;

use belfry_model::{
    Cause, Draft, DraftAnswer, Envelope, MAX_MESSAGE_BYTES, Message, MessageSettings, Notification, Outcome, Policy, Priority,
    accept, compact_object,
};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const CATEGORY: &str = "processing_results";

static ENVELOPE: LazyLock<Envelope> = LazyLock::new(|| {
    let sample = include_bytes!("../../../host/model/tests/samples/batch_results_ready.success.json");
    Envelope::parse(sample).expect("the sample is an envelope")
});

#[derive(Arbitrary, Debug)]
struct Answer {
    projector: Text,
    release: Text,
    source_service: Option<Text>,
    notifications: Vec<Wish>,
}

/// A draft with a fair chance of being accepted: plain noise would fail the first check.
#[derive(Arbitrary, Debug)]
struct Wish {
    recipient: Text,
    notification_type: Text,
    key: Text,
    payload: Payload,
    priority: u8,
    action_required: bool,
    deadline_ms: Option<i64>,
    batch_id: Option<Text>,
    class_id: Option<Text>,
    thread: Option<Text>,
    expires_at_ms: Option<i64>,
    fault: u8,
}

/// A large text from small input, to reach the limits on size.
#[derive(Arbitrary, Debug)]
struct Text {
    text: String,
    repeated: u16,
}

impl Text {
    fn grow(&self) -> String {
        // Most texts should be short; a byte of text may become six in JSON.
        let times = if self.repeated > 0xf000 { usize::from(self.repeated) } else { 1 };
        self.text.repeat(times.min(MAX_MESSAGE_BYTES / self.text.len().max(1)))
    }
}

#[derive(Arbitrary, Debug)]
enum Payload {
    Noise(String),
    Object(Vec<(Name, Json)>),
}

#[derive(Arbitrary, Debug)]
struct Name {
    before: Space,
    text: String,
    after: Space,
}

#[derive(Arbitrary, Debug)]
enum Json {
    Null,
    Bool(bool),
    Integer(i64),
    /// More digits than a machine word holds, to check that they are kept verbatim.
    Decimal(u64, u64, i16),
    Text(Text),
    /// Text in which every character is escaped.
    Escaped(String),
    Array(Vec<(Space, Json)>),
    Object(Vec<(Name, Json)>),
    Deep(u8, Box<Json>),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Space {
    None,
    Blank,
    Lines,
}

impl Space {
    fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Blank => " ",
            Self::Lines => "\r\n\t",
        }
    }
}

fuzz_target!(|answer: Answer| {
    let drafts: Vec<Draft> = answer.notifications.iter().map(draft).collect();
    let projector = answer.projector.grow();
    let accept = |notifications| accept(DraftAnswer { notifications, withdrawals: Vec::new() }, ENVELOPE.event_id, &projector, &[CATEGORY.to_owned()]);
    let notifications = match accept(drafts.clone()) {
        Ok(notifications) => notifications,
        Err(refusal) => {
            let known = [Outcome::OutputLimit, Outcome::InvalidOutput, Outcome::UnsupportedFeature];
            assert!(known.contains(&refusal.outcome), "{refusal:?}");
            return;
        }
    };
    assert_eq!(notifications.len(), drafts.len(), "all or none");
    let ids: HashSet<_> = notifications.iter().map(|notification| notification.id).collect();
    assert_eq!(ids.len(), notifications.len(), "two notifications have the same id");
    assert_eq!(accept(drafts.clone()).as_ref(), Ok(&notifications), "ids must be the same at every attempt");

    let settings = MessageSettings {
        topic: "huleedu.notification.teacher.requested.v1".to_owned(),
        source_service: answer.source_service.as_ref().map(Text::grow),
    };
    let cause = Cause { projector: &projector, release: &answer.release.grow() };
    for (draft, notification) in drafts.iter().zip(&notifications) {
        match Message::finish(notification, &ENVELOPE, cause, &settings) {
            Ok(message) => check_message(&message, draft, notification),
            Err(refusal) => assert_eq!(refusal.outcome, Outcome::OutputLimit, "{refusal}"),
        }
    }
});

fn check_message(message: &Message, draft: &Draft, notification: &Notification) {
    assert!(message.text.len() <= MAX_MESSAGE_BYTES, "{} bytes", message.text.len());
    // A line break would end the message for readers of NDJSON and SSE.
    assert!(!message.text.contains(['\n', '\r']), "more than one line: {}", message.text);
    let value: Value = serde_json::from_str(&message.text).expect("a message is JSON");
    let data = &value["data"];
    let payload: Value = serde_json::from_str(&draft.payload).expect("an accepted payload is JSON");
    assert_eq!(data["payload"], payload, "the client would see another payload");
    assert_eq!(value["event_id"], notification.id.to_string());
    assert_eq!(data["teacher_id"], draft.recipient);
    assert_eq!(data["notification_type"], draft.notification_type);
    assert_eq!(data["batch_id"].as_str(), draft.batch_id.as_deref());
    let again = compact_object(&notification.payload, usize::MAX).expect("a compacted payload is JSON");
    assert_eq!(again, notification.payload, "compacting again changes the payload");
}

fn draft(wish: &Wish) -> Draft {
    let priorities = [Priority::Low, Priority::Standard, Priority::High, Priority::Immediate, Priority::Critical];
    // Each of these makes the output invalid, so they must be rare.
    let (category, not_before_ms, policies) = match wish.fault {
        1 => ("unknown", None, vec![]),
        2 => (CATEGORY, Some(0), vec![]),
        3 => (CATEGORY, None, vec![Policy::Digest { key: String::new(), seconds: 1 }]),
        _ => (CATEGORY, None, vec![]),
    };
    Draft {
        recipient: wish.recipient.grow(),
        notification_type: wish.notification_type.grow(),
        category: category.to_owned(),
        priority: priorities[usize::from(wish.priority) % priorities.len()],
        payload: payload(&wish.payload),
        key: wish.key.grow(),
        action_required: wish.action_required,
        deadline_ms: wish.deadline_ms,
        batch_id: wish.batch_id.as_ref().map(Text::grow),
        class_id: wish.class_id.as_ref().map(Text::grow),
        thread: wish.thread.as_ref().map(Text::grow),
        not_before_ms,
        expires_at_ms: wish.expires_at_ms,
        policies,
    }
}

fn payload(payload: &Payload) -> String {
    let mut json = String::new();
    match payload {
        Payload::Noise(text) => json.push_str(text),
        Payload::Object(fields) => write_object(fields, &mut json),
    }
    json
}

fn write_object(fields: &[(Name, Json)], out: &mut String) {
    out.push('{');
    for (place, (name, value)) in fields.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        out.push_str(name.before.as_str());
        write_text(&name.text, out);
        out.push_str(name.after.as_str());
        out.push(':');
        write(value, out);
    }
    out.push('}');
}

fn write(json: &Json, out: &mut String) {
    match json {
        Json::Null => out.push_str("null"),
        Json::Bool(value) => out.push_str(&value.to_string()),
        Json::Integer(value) => out.push_str(&value.to_string()),
        Json::Decimal(digits, fraction, exponent) => out.push_str(&format!("-{digits}{digits}.{fraction}e{exponent}")),
        Json::Text(text) => write_text(&text.grow(), out),
        Json::Escaped(text) => {
            out.push('"');
            text.encode_utf16().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
            out.push('"');
        }
        Json::Array(items) => {
            out.push('[');
            for (place, (space, item)) in items.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                out.push_str(space.as_str());
                write(item, out);
            }
            out.push(']');
        }
        Json::Object(fields) => write_object(fields, out),
        Json::Deep(levels, inner) => {
            let levels = usize::from(*levels) % 40;
            out.push_str(&"[".repeat(levels));
            write(inner, out);
            out.push_str(&"]".repeat(levels));
        }
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push_str(&Value::from(text).to_string());
}
