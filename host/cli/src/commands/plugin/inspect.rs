//! `belfry plugin inspect`.

use std::fmt::Write as _;
use std::path::PathBuf;

use belfry_sandbox::{Class, Description, Limits, Projector};
use clap::Args;
use serde::Serialize;

use super::{load, read_component};
use crate::Exit;
use crate::escape::escape;
use crate::output::{Format, Output, table};

/// Arguments of `plugin inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry plugin inspect target/wasm32-wasip2/release/my_rule.wasm")]
pub struct InspectArgs {
    /// File of the component
    pub file: PathBuf,
}

/// The properties of a component.
#[derive(Serialize)]
struct Inspection<'a> {
    #[serde(flatten)]
    description: &'a Description,
    class: Class,
    size_bytes: usize,
    digest: String,
}

/// Loads a component locally, as the service would, and shows its description.
pub fn run(args: &InspectArgs, output: &Output) -> anyhow::Result<Exit> {
    let component = read_component(&args.file)?;
    let suite = load(&args.file, &component)?;
    let inspection = Inspection::of(suite.projector(), component.len());
    match output.format() {
        Format::Json => output.json(&inspection)?,
        Format::Text => output.text(&inspection.text())?,
    }
    Ok(Exit::Ok)
}

impl<'a> Inspection<'a> {
    fn of(projector: &'a Projector, size_bytes: usize) -> Self {
        Self {
            description: projector.description(),
            class: projector.class(),
            size_bytes,
            digest: projector.digest().to_string(),
        }
    }

    fn text(&self) -> String {
        let Description { name, version, summary, subscriptions, config, requires } = self.description;
        let limits = Limits::of(self.class);
        let mut text = format!("{} {}\n{}\n\n", escape(name), escape(version), escape(summary));
        let class = self.class.as_str();
        let (memory, deadline) = (limits.memory_bytes >> 20, limits.deadline.as_millis());
        let _ = writeln!(text, "class   {class} (by default {memory} MiB of memory and {deadline} ms per event)");
        let _ = writeln!(text, "size    {} bytes\nsha256  {}", self.size_bytes, self.digest);
        if !requires.is_empty() {
            let _ = writeln!(text, "needs   {}", escape(&requires.join(", ")));
        }
        let events = subscriptions.iter().map(|subscription| {
            [subscription.event_type.clone(), subscription.subject.clone().unwrap_or_else(|| "default".into())]
        });
        let _ = write!(text, "\n{}", table(["event type", "subject"], events));
        if config.is_empty() {
            text.push_str("\n\nno settings");
            return text;
        }
        let settings = config.iter().map(|key| {
            let default = match (&key.default, key.required) {
                (Some(default), _) => default.clone(),
                (None, true) => "required".to_owned(),
                (None, false) => "none".to_owned(),
            };
            [key.name.clone(), default, key.help.clone()]
        });
        let _ = write!(text, "\n\n{}", table(["setting", "default", "description"], settings));
        text
    }
}

#[cfg(test)]
mod tests {
    use belfry_sandbox::{ConfigKey, Subscription};

    use super::*;

    #[test]
    fn says_what_a_rule_wants() {
        let key = |name: &str, required, default: Option<&str>| ConfigKey {
            name: name.into(),
            required,
            default: default.map(str::to_owned),
            help: "what it is for".into(),
        };
        let description = Description {
            name: "urgent".into(),
            version: "1.1.0".into(),
            summary: "Tells \u{1b} teachers.".into(),
            subscriptions: vec![Subscription { event_type: "a.b.v1".into(), subject: Some("/owner/id".into()) }],
            config: vec![key("hours", false, Some("24")), key("topic", true, None)],
            requires: Vec::new(),
        };
        let inspection =
            Inspection { description: &description, class: Class::Native, size_bytes: 1234, digest: "abc".into() };
        let text = inspection.text();
        for expected in
            ["urgent 1.1.0\nTells \\u{1b} teachers.\n", "native", "1234 bytes", "/owner/id", "24", "required"]
        {
            assert!(text.contains(expected), "{expected:?} is not in {text}");
        }
        let json = serde_json::to_value(&inspection).expect("JSON");
        assert_eq!((&json["name"], &json["class"]), (&"urgent".into(), &"native".into()));
    }
}
