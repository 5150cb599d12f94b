//! `belfry plugin diff`.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::Exit;
use crate::client::Client;
use crate::client::wire::Release;
use crate::commands::release::ReleaseReference;
use crate::commands::release::find;
use crate::output::{Format, Output, table};

/// Arguments of `plugin diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry plugin diff teacher-results@1.1.0#6 teacher-results@1.2.0#7")]
pub struct DiffArgs {
    /// Number or label of the first release
    #[arg(value_name = "RELEASE")]
    pub before: ReleaseReference,
    /// Number or label of the second release
    #[arg(value_name = "RELEASE")]
    pub after: ReleaseReference,
}

/// A property that differs between two releases. `None` if a release does not have it.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Difference {
    what: String,
    before: Option<String>,
    after: Option<String>,
}

/// Shows the differences between two releases.
pub async fn run(args: &DiffArgs, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    let (before, after) = (find(&args.before, client).await?, find(&args.after, client).await?);
    let differences = differences(&before, &after);
    if output.format() == Format::Json {
        differences.iter().try_for_each(|difference| output.json(difference))?;
        return Ok(Exit::Ok);
    }
    if differences.is_empty() {
        output.note(format!("{} and {} do not differ", before.label, after.label));
        return Ok(Exit::Ok);
    }
    let shown = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let rows = differences.into_iter().map(|Difference { what, before, after }| [what, shown(before), shown(after)]);
    output.text(&table(["", &before.label, &after.label], rows))?;
    Ok(Exit::Ok)
}

fn differences(before: &Release, after: &Release) -> Vec<Difference> {
    let (before, after) = (facts(before), facts(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| Difference {
            what: name.clone(),
            before: before.get(name).cloned(),
            after: after.get(name).cloned(),
        })
        .collect()
}

/// Returns the properties that determine what a release does, by name. When and by whom it was created is not among them.
fn facts(release: &Release) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut fact = |name: String, value: String| drop(facts.insert(name, value));
    fact("projector".into(), release.projector.clone());
    fact("version".into(), release.version.clone());
    fact("digest".into(), release.digest.clone());
    let given: BTreeMap<String, Box<RawValue>> =
        release.config.as_ref().and_then(|config| serde_json::from_str(config.get()).ok()).unwrap_or_default();
    if let Some(description) = &release.description {
        fact("summary".into(), description.summary.clone());
        for subscription in &description.subscriptions {
            let subject =
                subscription.subject.as_deref().map_or("subject as usual".into(), |at| format!("subject {at}"));
            fact(format!("subscription {}", subscription.event_type), subject);
        }
        for key in description.config.iter().filter(|key| !given.contains_key(&key.name)) {
            let default = key.default.as_ref().map_or("none".into(), |default| format!("{default} (default)"));
            fact(format!("setting {}", key.name), default);
        }
    }
    for (name, value) in given {
        fact(format!("setting {name}"), value.get().to_owned());
    }
    if let Some(report) = &release.admission {
        fact("contract".into(), report.contract.clone());
        fact("class".into(), report.class.as_str().into());
        for import in &report.imports {
            fact(format!("import {import}"), "yes".into());
        }
    }
    facts
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn release(version: &str, config: Value, subscriptions: &[&str], default: &str) -> Release {
        let subscriptions: Vec<_> =
            subscriptions.iter().map(|name| json!({ "event_type": name, "subject": null })).collect();
        serde_json::from_value(json!({
            "release_id": 1, "projector": "rule", "version": version, "label": "rule@1#1", "digest": "d",
            "config": config, "note": "", "created_by": "anna", "created_at": "", "active": false,
            "description": {
                "name": "rule", "version": version, "summary": "s", "subscriptions": subscriptions, "requires": [],
                "config": [{ "name": "hours", "required": false, "default": default, "help": "" }]
            }
        }))
        .expect("a release")
    }

    fn rows(before: &Release, after: &Release) -> Vec<(String, Option<String>, Option<String>)> {
        differences(before, after).into_iter().map(|found| (found.what, found.before, found.after)).collect()
    }

    #[test]
    fn settings_and_subscriptions_are_told_apart_by_name() {
        let before = release("1.0.0", json!({}), &["a.v1"], "24");
        assert_eq!(rows(&before, &release("1.0.0", json!({}), &["a.v1"], "24")), []);
        let after = release("1.1.0", json!({ "hours": 2 }), &["b.v1"], "24");
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            rows(&before, &after),
            [
                ("setting hours".into(), some("24 (default)"), some("2")),
                ("subscription a.v1".into(), some("subject as usual"), None),
                ("subscription b.v1".into(), None, some("subject as usual")),
                ("version".into(), some("1.0.0"), some("1.1.0")),
            ]
        );
        let [one, other] = [9_007_199_254_740_992_u64, 9_007_199_254_740_993]
            .map(|hours| rows(&release("1.0.0", json!({ "hours": hours }), &[], "24"), &after));
        assert_ne!(one, other, "numbers are not rounded");
        let default = release("1.0.0", json!({}), &["a.v1"], "48");
        assert_eq!(rows(&before, &default), [("setting hours".into(), some("24 (default)"), some("48 (default)"))]);
    }
}
