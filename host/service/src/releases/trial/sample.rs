use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::diff::{Difference, FieldChange, NotificationContent};

/// Number of samples kept of each kind of difference; later ones replace earlier ones.
const SAMPLES: usize = 10;
/// Samples older than this many days are dropped.
const DAYS: i64 = 7;
const MS_PER_DAY: i64 = 24 * 60 * 60 * 1000;
/// Number of characters shown of a recipient's name.
const SHOWN: usize = 2;

/// An example of a difference, with recipient and content masked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) difference: Difference,
    pub(crate) event_id: Uuid,
    pub(crate) notification_id: Uuid,
    /// The first characters of the recipient's name.
    pub(crate) recipient: String,
    pub(crate) notification_type: String,
    pub(crate) priority: String,
    pub(crate) fields: Vec<MaskedField>,
    pub(crate) seen_at_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct MaskedField {
    field: String,
    before: Value,
    after: Value,
}

impl Sample {
    pub(super) fn of(
        difference: Difference,
        event_id: Uuid,
        content: &NotificationContent,
        fields: Vec<FieldChange>,
        seen_at_ms: i64,
    ) -> Self {
        let masked = |FieldChange { field, before, after }| {
            // The fields of a notification are not confidential; its payload may be.
            let plain = !field.starts_with("payload.");
            let mask = |value: Value| if plain { value } else { mask(value) };
            MaskedField { field, before: mask(before), after: mask(after) }
        };
        Self {
            difference,
            event_id,
            notification_id: content.id,
            recipient: content.recipient.chars().take(SHOWN).chain(['…']).collect(),
            notification_type: content.notification_type.clone(),
            priority: content.priority.clone(),
            fields: fields.into_iter().map(masked).collect(),
            seen_at_ms,
        }
    }
}

/// Replaces text, lists and objects by their size. Numbers stay, because they show what a rule counts.
fn mask(value: Value) -> Value {
    match value {
        Value::String(text) => format!("a text of {} characters", text.chars().count()).into(),
        Value::Array(values) => format!("a list of {}", values.len()).into(),
        Value::Object(fields) => format!("an object of {} fields", fields.len()).into(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

/// Adds a sample, and drops the one that it replaces and those that are too old.
pub(super) fn keep(samples: &mut Vec<Sample>, new: Sample) {
    let oldest = new.seen_at_ms - DAYS * MS_PER_DAY;
    samples.retain(|sample| sample.seen_at_ms >= oldest);
    let alike = |sample: &Sample| sample.difference == new.difference;
    if samples.iter().filter(|sample| alike(sample)).count() >= SAMPLES {
        let replaced = samples.iter().position(alike).expect("there are samples of this kind");
        samples.remove(replaced);
    }
    samples.push(new);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(difference: Difference, seen_at_ms: i64) -> Sample {
        Sample {
            difference,
            event_id: Uuid::nil(),
            notification_id: Uuid::nil(),
            recipient: "te…".into(),
            notification_type: "done".into(),
            priority: "high".into(),
            fields: Vec::new(),
            seen_at_ms,
        }
    }

    #[test]
    fn a_few_of_each_difference_are_kept_the_latest() {
        let mut samples = Vec::new();
        for ms in 0..100 {
            keep(&mut samples, sample(Difference::Added, ms));
        }
        keep(&mut samples, sample(Difference::Removed, 100));
        assert_eq!(samples.len(), SAMPLES + 1);
        assert_eq!(samples[0].seen_at_ms, 90);
    }

    #[test]
    fn what_is_old_goes() {
        let mut samples = Vec::new();
        keep(&mut samples, sample(Difference::Added, 0));
        keep(&mut samples, sample(Difference::Added, 8 * MS_PER_DAY));
        assert_eq!(samples.len(), 1);
    }

    #[test]
    fn what_a_notification_says_is_masked() {
        assert_eq!(mask("Anna was ill".into()), Value::from("a text of 12 characters"));
        assert_eq!(mask(serde_json::json!(["Anna"])), Value::from("a list of 1"));
        assert_eq!(mask(28.into()), Value::from(28));
    }
}
