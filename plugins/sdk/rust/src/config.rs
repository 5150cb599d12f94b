//! The release's configuration.

use serde::de::DeserializeOwned;

/// The setting's value: what the release gives, else the default from the description. The error says what is wrong, in
/// words fit for `check_config`.
pub fn get<T: DeserializeOwned>(name: &str) -> Result<Option<T>, String> {
    text(name).map(|text| serde_json::from_str(&text).map_err(|error| format!("{name}: {error}"))).transpose()
}

#[cfg(target_family = "wasm")]
fn text(name: &str) -> Option<String> {
    crate::bindings::belfry::projector::config::get(name)
}

/// Outside a component, as in a unit test of the rule itself, there is no configuration.
#[cfg(not(target_family = "wasm"))]
fn text(_name: &str) -> Option<String> {
    None
}
