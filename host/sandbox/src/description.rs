use std::collections::BTreeMap;

use belfry_model::JsonObject;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// The description of a rule. The contract in `wit/` defines its fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the contract in wit/ documents the fields")]
pub struct Description {
    pub name: String,
    pub version: String,
    pub summary: String,
    pub subscriptions: Vec<Subscription>,
    pub config: Vec<ConfigKey>,
    pub requires: Vec<String>,
}

/// An event type that a rule subscribes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the contract in wit/ documents the fields")]
pub struct Subscription {
    pub event_type: String,
    pub subject: Option<String>,
}

/// A setting that a rule accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the contract in wit/ documents the fields")]
pub struct ConfigKey {
    pub name: String,
    pub required: bool,
    pub default: Option<String>,
    pub help: String,
}

const MAX_NAME_BYTES: usize = 63;
const MAX_TEXT_BYTES: usize = 4096;
const MAX_LIST: usize = 256;

impl Description {
    /// Returns the first error in the description, if any, as a message for the rule's author.
    pub(crate) fn problem(&self) -> Option<String> {
        if !is_name(&self.name) {
            return Some("name: must be a lower-case letter, then up to 62 of a-z, 0-9 and -".into());
        }
        let plain = |text: &str| !text.is_empty() && text.len() <= MAX_TEXT_BYTES && !text.contains(char::is_control);
        if !plain(&self.version) || self.version.contains(['@', '#', ' ']) || self.version.len() > MAX_NAME_BYTES {
            return Some("version: must be up to 63 bytes such as 1.2.0, without @, # and spaces".into());
        }
        if !plain(&self.summary) {
            return Some("summary: must be one line of up to 4096 bytes".into());
        }
        if self.subscriptions.is_empty() {
            return Some(
                "subscriptions: a rule without subscriptions would never run; subscribe to an event type".into(),
            );
        }
        if self.subscriptions.len() > MAX_LIST || self.config.len() > MAX_LIST {
            return Some(format!("subscriptions, config: at most {MAX_LIST} each"));
        }
        self.subscription_problem().or_else(|| self.config_problem()).or_else(|| self.requirement_problem())
    }

    fn subscription_problem(&self) -> Option<String> {
        self.subscriptions.iter().enumerate().find_map(|(place, subscription)| {
            let event_type = &subscription.event_type;
            if event_type.is_empty() || event_type.len() > MAX_TEXT_BYTES || event_type.contains('\0') {
                return Some(format!("subscriptions[{place}].event-type: must be an event type"));
            }
            if self.subscriptions[..place].iter().any(|earlier| earlier.event_type == *event_type) {
                return Some(format!("subscriptions[{place}].event-type: {event_type} is subscribed to twice"));
            }
            let pointer = subscription.subject.as_deref()?;
            (!pointer.is_empty() && !pointer.starts_with('/'))
                .then(|| format!("subscriptions[{place}].subject: an RFC 6901 pointer starts with /, such as /user_id"))
        })
    }

    fn config_problem(&self) -> Option<String> {
        self.config.iter().find_map(|key| {
            let default = key.default.as_deref()?;
            serde_json::from_str::<Value>(default)
                .err()
                .map(|error| format!("config {}: the default is not valid JSON: {error}", key.name))
        })
    }

    fn requirement_problem(&self) -> Option<String> {
        let unknown = self.requires.first()?;
        Some(format!("requires: this version of Belfry does not support the feature {unknown:?}; use a newer version"))
    }
}

/// Returns whether a name matches `[a-z][a-z0-9-]{0,62}`. Names are used in file names, metrics and URLs.
fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// The settings of a release: name → JSON text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration(BTreeMap<String, String>);

impl Configuration {
    /// Creates the configuration from a release's settings and the defaults. Returns an error for settings that the
    /// rule does not declare, and for missing required ones.
    pub fn new(given: &JsonObject, description: &Description) -> Result<Self, String> {
        // Values are kept as text, since numbers may have any number of digits.
        let given: BTreeMap<String, &RawValue> =
            serde_json::from_str(given.as_str()).map_err(|error| error.to_string())?;
        let known = || description.config.iter().map(|key| key.name.as_str()).collect::<Vec<_>>().join(", ");
        if let Some(unknown) = given.keys().find(|name| !description.config.iter().any(|key| key.name == **name)) {
            return Err(match known() {
                names if names.is_empty() => format!("{unknown}: unknown setting; {} has none", description.name),
                names => format!("{unknown}: unknown setting; {} has: {names}", description.name),
            });
        }
        let mut settings = BTreeMap::new();
        for key in &description.config {
            let value = given.get(&key.name).map(|json| json.get().to_owned()).or_else(|| key.default.clone());
            match value {
                Some(value) => drop(settings.insert(key.name.clone(), value)),
                None if key.required => return Err(format!("{}: missing; it is required ({})", key.name, key.help)),
                None => {}
            }
        }
        Ok(Self(settings))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&String> {
        self.0.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_reach_the_rule_with_all_digits() {
        let key = ConfigKey { name: "n".into(), required: true, default: None, help: String::new() };
        let description = Description {
            name: "rule".into(),
            version: "1".into(),
            summary: "s".into(),
            subscriptions: Vec::new(),
            config: vec![key],
            requires: Vec::new(),
        };
        for (given, seen) in [("9007199254740993", "9007199254740993"), ("28.0", "28"), ("[0.10, 1e2]", "[0.1,100]")] {
            let given = format!(r#"{{"n":{given}}}"#).parse().expect("an object");
            let configuration = Configuration::new(&given, &description).expect("a valid configuration");
            assert_eq!(configuration.get("n").map(String::as_str), Some(seen));
        }
    }
}
