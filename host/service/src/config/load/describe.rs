//! Errors of the configuration's library in the words of this configuration.

use figment::Metadata;
use figment::error::{Actual, Kind};

use super::assigned::{Origin, variable_of};
use crate::config::{is_secret, without_secrets};

/// How similar a name must be to be suggested, from 0 to 1.
const SIMILAR: f64 = 0.8;

/// Describes the first error; others often follow from it. Names where the setting was set, the setting, its value and what is
/// expected.
pub(super) fn describe(error: &figment::Error) -> String {
    let first = error.clone().into_iter().next().unwrap_or_else(|| error.clone());
    let name = first.path.join(".");
    let place = first.metadata.as_ref().and_then(|metadata| place(metadata, &name));
    let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
    match &first.kind {
        Kind::UnknownField(field, known) => {
            let section = name.rsplit_once('.').map(|(section, _)| format!("{section}.")).unwrap_or_default();
            let suggestion = nearest(field, known).map(|known| format!(" (did you mean {section}{known}?)"));
            format!("{place}there is no setting {section}{field}{}", suggestion.unwrap_or_default())
        }
        Kind::InvalidType(actual, wanted) | Kind::InvalidValue(actual, wanted) => {
            format!("{place}{name} = {}: must be {}", shown(&name, actual), expected(wanted))
        }
        Kind::UnknownVariant(actual, known) => {
            let suggestion = nearest(actual, known).map(|known| format!(" (did you mean {known}?)"));
            format!("{place}{name} = {actual:?}: must be one of {}{}", known.join(", "), suggestion.unwrap_or_default())
        }
        Kind::Message(message) if !name.is_empty() => format!("{place}{name}: {message}"),
        _ => first.to_string(),
    }
}

/// Returns the flag, the variable or the file that has a setting. `None` for a default.
fn place(metadata: &Metadata, name: &str) -> Option<String> {
    match Origin::of(metadata) {
        Origin::Default => None,
        Origin::File(path) => Some(path.display().to_string()),
        Origin::Variable => Some(variable_of(&[name])),
        Origin::Flag => Some("--set".to_owned()),
    }
}

fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let similar = known.iter().map(|known| (strsim::jaro_winkler(name, known), *known));
    similar.filter(|(similarity, _)| *similarity >= SIMILAR).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}

/// A value for display. It may be a URL with a password.
fn shown(name: &str, actual: &Actual) -> String {
    match actual {
        _ if is_secret(name) => "(hidden)".to_owned(),
        Actual::Str(text) => format!("{:?}", without_secrets(text)),
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a section".to_owned(),
        other => other.to_string(),
    }
}

/// An expectation without the names of Rust types.
fn expected(wanted: &str) -> String {
    match wanted {
        "a boolean" => "true or false".to_owned(),
        "u8" => whole_number(u8::MAX.into()),
        "u16" => whole_number(u16::MAX.into()),
        "u32" => whole_number(u32::MAX),
        "u64" | "usize" => "a whole number from 0".to_owned(),
        "i8" | "i16" | "i32" | "i64" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a sequence" => "a list".to_owned(),
        wanted if wanted.starts_with("struct ") || wanted == "a map" => "a section of settings".to_owned(),
        wanted => wanted.to_owned(),
    }
}

fn whole_number(largest: u32) -> String {
    format!("a whole number from 0 to {largest}")
}

#[cfg(test)]
mod tests {
    use crate::config::load;

    fn refused(name: &str, value: &str) -> String {
        load(None, &[(name.to_owned(), value.to_owned())]).expect_err("it is invalid").to_string()
    }

    #[test]
    fn an_error_names_the_setting_the_value_and_what_is_expected() {
        for (name, value, expected) in [
            ("http.lisen", "x", "--set: there is no setting http.lisen (did you mean http.listen?);"),
            ("foo.bar", "1", "--set: there is no setting foo;"),
            ("storage.url", "x", "--set: there is no setting storage (did you mean store?);"),
            ("http.max_feeds", "many", "--set: http.max_feeds = \"many\": must be a whole number from 0;"),
            ("http.max_feeds", "-1", "--set: http.max_feeds = -1: must be a whole number from 0;"),
            ("sink.kafka.enabled", "maybe", "--set: sink.kafka.enabled = \"maybe\": must be true or false;"),
            ("preset", "prod", "did you mean production?"),
            ("kafka.topics", "[1", "--set: kafka.topics: must be \"subscribed\" or a list of topics"),
            ("http", "1", "--set: http = 1: must be a section of settings;"),
        ] {
            let error = refused(name, value);
            assert!(error.contains(expected), "{name} = {value}: {error}");
            assert!(!error.contains("::") && !error.contains(".rs"), "{error}");
        }
    }

    #[test]
    fn a_password_is_not_quoted() {
        let error = refused("source.postgres", "postgres://belfry:secret@db/app");
        assert!(!error.contains("secret"), "{error}");
    }
}
