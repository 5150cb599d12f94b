use figment::Figment;
use figment::providers::{Format, Toml};
use serde::{Deserialize, Serialize};

/// What a service is for; decides defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// On somebody's own machine.
    Development,
    /// In a test: it waits less.
    Testing,
    /// For real.
    Production,
}

impl Preset {
    /// What differs from the usual defaults.
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

/// Put the preset that is asked for between the defaults and everything that was set.
pub(super) fn below(defaults: Figment, set: Figment) -> Figment {
    let asked = defaults.clone().merge(set.clone()).extract_inner::<Preset>("preset");
    // A preset that does not exist is told of when the whole is read.
    let preset = asked.map(Preset::defaults).unwrap_or_default();
    defaults.merge(Toml::string(preset)).merge(set)
}
