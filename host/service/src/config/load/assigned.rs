//! Settings from the environment and from flags, where every value is text.

use std::ffi::OsString;
use std::path::Path;

use figment::value::{Dict, Map, Value};
use figment::{Error, Metadata, Profile, Provider, Source, util};

use super::ConfigError;

const PREFIX: &str = "BELFRY__";
/// The names of the providers, by which the origin of a value is known.
const FLAG: &str = "flag";
const VARIABLE: &str = "environment";
/// Settings whose default is a string, but which also accept a list.
const WORD_OR_LIST: [&str; 2] = ["kafka.topics", "publish.topics"];

/// Where a value was set.
pub(super) enum Origin<'a> {
    Default,
    File(&'a Path),
    Variable,
    Flag,
}

impl<'a> Origin<'a> {
    pub(super) fn of(metadata: &'a Metadata) -> Self {
        match &metadata.source {
            Some(Source::File(path)) => Self::File(path),
            _ if metadata.name == FLAG => Self::Flag,
            _ if metadata.name == VARIABLE => Self::Variable,
            _ => Self::Default,
        }
    }
}

/// One setting. Its value has the type of its default. Settings without a default, such as Kafka properties, are strings.
pub(super) struct Assigned {
    metadata: Metadata,
    settings: Dict,
}

impl Assigned {
    /// Creates a setting from a flag, such as `("http.listen", "127.0.0.1:0")`.
    pub(super) fn flag(name: &str, written: &str, defaults: &Dict) -> Self {
        let metadata = Metadata::named(FLAG).interpolater(|_, keys| format!("--set {}", keys.join(".")));
        Self { metadata, settings: settings(name, written, defaults) }
    }

    /// Creates settings from the environment variables that begin with `BELFRY__`.
    pub(super) fn environment(
        variables: impl Iterator<Item = (OsString, OsString)>,
        defaults: &Dict,
    ) -> Result<Vec<Self>, ConfigError> {
        let mut all = Vec::new();
        for (variable, written) in variables {
            let variable = variable.to_string_lossy().to_ascii_uppercase();
            let Some(name) = variable.strip_prefix(PREFIX) else { continue };
            let name = name.to_ascii_lowercase().replace("__", ".");
            if name.split('.').any(str::is_empty) {
                continue;
            }
            let Ok(written) = written.into_string() else {
                return Err(ConfigError::Invalid(format!("the environment variable {variable} is not valid UTF-8")));
            };
            let metadata = Metadata::named(VARIABLE).interpolater(|_, keys| variable_of(keys));
            all.push(Self { metadata, settings: settings(&name, &written, defaults) });
        }
        Ok(all)
    }
}

impl Provider for Assigned {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.settings.clone()))
    }
}

/// Returns the environment variable for the setting at these keys.
pub(super) fn variable_of(keys: &[&str]) -> String {
    format!("{PREFIX}{}", keys.join("__").to_uppercase().replace('.', "__"))
}

fn settings(name: &str, written: &str, defaults: &Dict) -> Dict {
    util::nest(name, value(name, written, defaults)).into_dict().unwrap_or_default()
}

fn value(name: &str, written: &str, defaults: &Dict) -> Value {
    let list = written.trim_start().starts_with('[');
    match default(name, defaults) {
        Some(Value::String(..)) if list && WORD_OR_LIST.contains(&name) => texts(written),
        Some(Value::Array(..)) if list => texts(written),
        Some(Value::String(..)) | None => written.into(),
        Some(_) => parsed(written),
    }
}

fn default<'a>(name: &str, defaults: &'a Dict) -> Option<&'a Value> {
    let (section, rest) = name.split_once('.').unwrap_or((name, ""));
    match defaults.get(section)? {
        Value::Dict(_, inner) if !rest.is_empty() => default(rest, inner),
        value => rest.is_empty().then_some(value),
    }
}

/// Parses a number, a boolean or a section.
fn parsed(written: &str) -> Value {
    let Ok(value) = written.parse();
    value
}

/// Parses a list of strings, with or without quotes, or a list of sections.
fn texts(written: &str) -> Value {
    let inside = written.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let Some(mut rest) = inside.filter(|inside| !inside.trim_start().starts_with('{')) else { return parsed(written) };
    let mut texts: Vec<Value> = Vec::new();
    while !rest.trim().is_empty() {
        rest = rest.trim_start();
        let end = if rest.starts_with('"') { quoted(rest) } else { rest.find(',') };
        let (text, behind) = rest.split_at(end.unwrap_or(rest.len()));
        texts.push(if text.starts_with('"') { parsed(text) } else { text.trim_end().into() });
        rest = behind.trim_start().strip_prefix(',').unwrap_or_default();
    }
    texts.into()
}

/// Returns the end of the quoted string that a text begins with, just after the closing quote.
fn quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    let closing = text.char_indices().skip(1).find(|(_, character)| {
        let closes = *character == '"' && !escaped;
        escaped = *character == '\\' && !escaped;
        closes
    });
    closing.map(|(index, _)| index + 1)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use figment::Figment;
    use figment::providers::{Format, Toml};

    use super::*;
    use crate::config::DEFAULT_TOML;

    fn defaults() -> Dict {
        Figment::from(Toml::string(DEFAULT_TOML)).extract().expect("the defaults are valid")
    }

    fn texts_of(written: &str) -> Vec<String> {
        let values = texts(written).into_array().expect("a list");
        values.iter().map(|value| value.as_str().expect("a string").to_owned()).collect()
    }

    #[test]
    fn a_text_keeps_its_characters() {
        for name in ["replica.name", "kafka.group", "log.level", "kafka.properties.sasl.password", "redis.url_file"] {
            for written in ["0", "007", "1.10", "1e3", "true", "[a]", "{a=b}", "\"quoted\"", "'c'", " spaces ", ""] {
                let value = value(name, written, &defaults());
                assert_eq!(value.as_str(), Some(written), "{name}={written}");
            }
        }
    }

    #[test]
    fn numbers_truths_and_lists_are_what_they_are() {
        let defaults = defaults();
        assert_eq!(value("writer.group_entries", "100", &defaults).to_u128(), Some(100));
        assert_eq!(value("sink.stdout.enabled", "true", &defaults).to_bool(), Some(true));
        assert_eq!(value("kafka.topics", "subscribed", &defaults).as_str(), Some("subscribed"));
        assert!(value("kafka.topics", "[1, 2]", &defaults).into_array().is_some());
        assert!(value("source.postgres", "[{name=a,url=b}]", &defaults).into_array().is_some());
        assert_eq!(texts_of("[]"), Vec::<String>::new());
        assert_eq!(texts_of("[007, true,a b , \"x, \\\"y\\\"\", ü]"), ["007", "true", "a b", "x, \"y\"", "ü"]);
    }

    #[test]
    fn a_variable_that_is_not_text_is_refused() {
        let variable = ("BELFRY__REPLICA__NAME".into(), OsString::from_vec(vec![0xff]));
        let refused = Assigned::environment([variable].into_iter(), &defaults());
        assert!(matches!(refused, Err(ConfigError::Invalid(why)) if why.contains("BELFRY__REPLICA__NAME")));
    }

    /// A value without a default is read as a string, so the setting must be a string.
    #[test]
    fn settings_without_a_default_are_texts() {
        let commented = DEFAULT_TOML.lines().filter_map(|line| line.strip_prefix("# ")?.split_once(" = "));
        for (name, value) in commented.filter(|(name, _)| name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_'))) {
            assert!(value.starts_with('"'), "{name} = {value}: give it a default, or make it a string");
        }
    }
}
