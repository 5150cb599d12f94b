//! `belfry explain`.

use serde::Serialize;

use crate::Exit;
use crate::args::ExplainArgs;
use crate::client::wire::{EventHistory, NotificationHistory};
use crate::client::{Client, ClientError};
use crate::exit::Fault;
use crate::output::{Format, Output};

mod text;

/// Everything that is known about an id.
#[derive(Serialize)]
struct Explanation {
    /// If it is a notification's.
    #[serde(skip_serializing_if = "Option::is_none")]
    notification: Option<NotificationHistory>,
    /// The event, or the one behind the notification; none if that is no longer kept.
    event: Option<EventHistory>,
}

/// Tell where a notification comes from, or what became of an event.
pub async fn run(args: &ExplainArgs, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    let id = args.id;
    let explanation = match found(client.notification(id).await)? {
        Some(notification) => {
            let event = match &notification.cause {
                Some(cause) => found(client.event(cause.event_id).await)?,
                None => None,
            };
            Explanation { notification: Some(notification), event }
        }
        None => Explanation { notification: None, event: found(client.event(id).await)? },
    };
    if explanation.notification.is_none() && explanation.event.is_none() {
        let message = format!("no notification and no event {id}: it was never taken here, or is older than the log");
        return Err(Fault::new(Exit::NotFound, message).into());
    }
    match output.format() {
        Format::Json => output.json(&explanation)?,
        Format::Text => {
            let notification = explanation.notification.as_ref().map(text::notification);
            let event = explanation.event.as_ref().map(text::event);
            let parts: Vec<_> = notification.into_iter().chain(event).collect();
            output.text(parts.join("\n").trim_end())?;
        }
    }
    Ok(Exit::Ok)
}

/// What is not there is none; every other error stays one.
fn found<T>(answer: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
