//! Access to the release's configuration.

use serde::de::DeserializeOwned;

/// Returns the value of a setting: the release's value, else the default from the description, else `None`.
///
/// # Errors
///
/// Returns an error if the value cannot be deserialized to `T`. The message names the setting and is suitable for
/// `check_config`.
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
