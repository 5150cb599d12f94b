mod assigned;
mod describe;

use std::path::Path;

use assigned::{Assigned, Origin, variable_of};
use describe::describe;
use figment::Figment;
use figment::providers::{Format, Toml};
use figment::value::{Dict, Value};
use serde::Serialize;

use super::{Config, DEFAULT_TOML, is_secret, preset, without_secrets};

/// A configuration, and the origin of each of its values.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// All values, with secrets hidden.
    pub settings: Vec<Setting>,
}

/// The value of a setting.
#[derive(Debug, Serialize)]
pub struct Setting {
    /// The name, such as `http.listen`.
    pub name: String,
    /// The value as JSON; `(hidden)` if it is a secret.
    pub value: serde_json::Value,
    /// The origin: `default`, the path of the file, `environment VARIABLE` or `flag`.
    pub origin: String,
}

/// An error in the configuration. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value has the wrong type, or a setting does not exist.
    #[error("configuration: {0}; `belfry config show` lists every setting")]
    Invalid(String),
    /// A value is out of bounds, or contradicts another.
    #[error("configuration: {0}")]
    Problem(String),
    /// The configuration file does not exist.
    #[error("cannot read the configuration file {0}; check --config")]
    NoFile(String),
}

/// Loads a configuration. `flags` are pairs such as `("http.listen", "127.0.0.1:0")`.
///
/// # Errors
///
/// Returns an error if the file is missing or the configuration is invalid.
pub fn load(file: Option<&Path>, flags: &[(String, String)]) -> Result<Loaded, ConfigError> {
    let defaults = Figment::from(Toml::string(DEFAULT_TOML));
    let types: Dict = defaults.extract().map_err(|error| ConfigError::Invalid(describe(&error)))?;
    let mut set = Figment::new();
    if let Some(file) = file {
        if !file.is_file() {
            return Err(ConfigError::NoFile(file.display().to_string()));
        }
        set = set.merge(Toml::file_exact(file));
    }
    for variable in Assigned::environment(std::env::vars_os(), &types)? {
        set = set.merge(variable);
    }
    for (name, written) in flags {
        set = set.merge(Assigned::flag(name, written, &types));
    }
    let figment = preset::below(defaults, set);
    let config: Config = figment.extract().map_err(|error| ConfigError::Invalid(describe(&error)))?;
    if let Some(problem) = config.problem() {
        return Err(ConfigError::Problem(problem));
    }
    let values: Dict = figment.extract().map_err(|error| ConfigError::Invalid(describe(&error)))?;
    let mut settings = Vec::new();
    flatten("", &values, &mut |name, value| {
        settings.push(Setting { value: shown(&name, value), origin: origin(&figment, &name), name });
    });
    Ok(Loaded { config, settings })
}

/// Converts a value to JSON for display, with secrets hidden.
fn shown(name: &str, value: &Value) -> serde_json::Value {
    match value {
        _ if is_secret(name) => "(hidden)".into(),
        Value::String(_, text) => without_secrets(text).into(),
        Value::Array(_, values) => values.iter().map(|value| shown(name, value)).collect(),
        Value::Dict(_, values) => {
            values.iter().map(|(key, value)| (key.clone(), shown(&format!("{name}.{key}"), value))).collect()
        }
        value => serde_json::to_value(value).unwrap_or_default(),
    }
}

fn flatten(prefix: &str, values: &Dict, visit: &mut impl FnMut(String, &Value)) {
    for (key, value) in values {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Dict(_, inner) => flatten(&name, inner, visit),
            value => visit(name, value),
        }
    }
}

fn origin(figment: &Figment, name: &str) -> String {
    match figment.find_metadata(name).map_or(Origin::Default, Origin::of) {
        Origin::Default => "default".into(),
        Origin::File(path) => path.display().to_string(),
        Origin::Variable => format!("environment {}", variable_of(&[name])),
        Origin::Flag => "flag".into(),
    }
}
