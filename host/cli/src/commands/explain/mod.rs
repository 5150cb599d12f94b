//! `belfry explain`.

use clap::Args;
use serde::Serialize;
use uuid::Uuid;

use crate::Exit;
use crate::client::wire::{EventHistory, NotificationHistory, Rerun};
use crate::client::{Client, ClientError};
use crate::exit::Fault;
use crate::output::{Format, Output};

mod text;

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  belfry explain fe17901f-b267-53fc-ab06-b54d181baae1
  belfry explain --rerun fe17901f-b267-53fc-ab06-b54d181baae1

With --rerun, the exit code is 3 if the result is different now.")]
pub struct ExplainArgs {
    /// Id of a notification or an event
    #[arg(value_name = "ID", value_parser = uuid)]
    pub id: Uuid,
    /// Project the event again with the same releases, and report whether the result is the same
    #[arg(long)]
    pub rerun: bool,
}

fn uuid(text: &str) -> Result<Uuid, &'static str> {
    Uuid::parse_str(text).map_err(|_| "must be a UUID, such as fe17901f-b267-53fc-ab06-b54d181baae1")
}

/// Everything known about an id.
#[derive(Serialize)]
struct Explanation {
    /// The notification, if the id is a notification's.
    #[serde(skip_serializing_if = "Option::is_none")]
    notification: Option<NotificationHistory>,
    /// The event, or the one that caused the notification; `None` if it is no longer kept.
    event: Option<EventHistory>,
    /// The reruns of the event with each release, if requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    reruns: Option<Vec<Rerun>>,
}

/// Explains the origin of a notification, or the outcome of an event.
pub async fn run(args: &ExplainArgs, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    let id = args.id;
    let mut explanation = match found(client.notification(id).await)? {
        Some(notification) => {
            let event = match &notification.cause {
                Some(cause) => found(client.event(cause.event_id).await)?,
                None => None,
            };
            Explanation { notification: Some(notification), event, reruns: None }
        }
        None => Explanation { notification: None, event: found(client.event(id).await)?, reruns: None },
    };
    if explanation.notification.is_none() && explanation.event.is_none() {
        let message = format!("no notification or event {id}: it was never recorded here, or is older than the log");
        return Err(Fault::new(Exit::NotFound, message).into());
    }
    if args.rerun {
        let Some(event) = &explanation.event else {
            let message = format!("the event that caused {id} is no longer kept: it cannot be projected again");
            return Err(Fault::new(Exit::NotFound, message).into());
        };
        explanation.reruns = Some(client.rerun(event.event_id).await?);
    }
    match output.format() {
        Format::Json => output.json(&explanation)?,
        Format::Text => {
            let notification = explanation.notification.as_ref().map(text::notification);
            let mut event = explanation.event.as_ref().map(text::event);
            if let (Some(event), Some(reruns)) = (&mut event, &explanation.reruns) {
                event.push_str(&text::reruns(reruns));
            }
            let parts: Vec<_> = notification.into_iter().chain(event).collect();
            output.text(parts.join("\n").trim_end())?;
        }
    }
    let differs = explanation.reruns.iter().flatten().any(|rerun| rerun.same == Some(false));
    Ok(if differs { Exit::Check } else { Exit::Ok })
}

/// Turns a not-found error into `None`. Returns other errors unchanged.
fn found<T>(answer: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
