use figment::Figment;
use figment::providers::{Format, Toml};
use serde::{Deserialize, Serialize};

/// The purpose of a service, which determines some defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Development on a local machine.
    Development,
    /// Tests, with shorter waits.
    Testing,
    /// Production use.
    Production,
}

impl Preset {
    /// Returns the defaults that differ from the usual ones, as TOML.
    const fn defaults(self) -> &'static str {
        match self {
            Self::Development => "",
            Self::Testing => {
                "[delivery]\nstall_ms = 3000\nbackoff_max_ms = 500\n[store]\nconnect_timeout_ms = 2000\nlock_timeout_ms = 2000\n"
            }
            Self::Production => "[log]\nformat = \"json\"\n[store]\nmigrate = false\n",
        }
    }
}

/// Merges the requested preset between the defaults and the values that were set.
pub(super) fn below(defaults: Figment, set: Figment) -> Figment {
    let asked = defaults.clone().merge(set.clone()).extract_inner::<Preset>("preset");
    // An unknown preset is reported later, when the whole configuration is extracted.
    let preset = asked.map(Preset::defaults).unwrap_or_default();
    defaults.merge(Toml::string(preset)).merge(set)
}
