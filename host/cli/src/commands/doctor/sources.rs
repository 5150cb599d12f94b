//! Checks of the databases in which other services submit events.

use belfry_service::config::{Config, PostgresSource};
use belfry_store::{DatabaseDoctor, StoreSettings};

use super::check::Check;

/// The number of waiting events from which on the check warns.
const BACKLOG: i64 = 10_000;

pub(super) async fn check(config: &Config, source: &PostgresSource) -> Vec<Check> {
    let name = format!("source.postgres {}", source.name);
    let settings = match (source.address(), config.store.settings()) {
        (Ok(url), Ok(settings)) => StoreSettings { url, ..settings },
        (Ok(url), Err(_)) => StoreSettings::new(url),
        (Err(error), _) => return vec![Check::failed(name, error.to_string(), "fix its url_file")],
    };
    let mut doctor = match DatabaseDoctor::connect(&settings).await {
        Ok(doctor) => doctor,
        Err(error) => {
            let remedy = "start it, or fix its url; until then, its events wait there, and none is lost";
            return vec![Check::failed(name, error.to_string(), remedy)];
        }
    };
    vec![match doctor.source().await {
        Err(error) => {
            Check::failed(name, error.to_string(), "grant belfry's role SELECT and DELETE on belfry.submitted")
        }
        Ok(state) if !state.installed => Check::failed(
            name,
            "belfry.submit is not installed",
            "run `belfry migrate --submit-only --url URL` as the owner of that database",
        ),
        Ok(state) if state.backlog >= BACKLOG => Check::warning(
            name,
            format!("at least {} events wait", state.backlog),
            "check that a replica of belfry is running, and its log for this source",
        ),
        Ok(state) => Check::ok(name, format!("{} events wait", state.backlog)),
    }]
}
