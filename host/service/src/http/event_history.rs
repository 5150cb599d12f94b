//! The history of an event, the origin of a notification, and the rerun of an event.

use axum::Json;
use axum::extract::State;
use belfry_store::{LogEntry, NotificationHistory};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Api;
use super::extract::Path;
use super::notification::{CauseView, DeliveryView, MakerView, NotificationView};
use super::problem::Problem;
use super::wire::{HistoryDeadLetter, HistoryNotification, HistoryWithheld, raw};
use crate::clock::rfc3339;
use crate::rerun::{NotRerun, Rerun, rerun};

/// An event with its projections, notifications and dead letters.
#[derive(Serialize)]
pub(crate) struct EventView {
    event_id: Uuid,
    event_type: String,
    position: i64,
    recorded_at: String,
    /// Where the event was read; `None` if it was posted.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    event: Option<Box<RawValue>>,
    projections: Option<Box<RawValue>>,
    notifications: Vec<HistoryNotification>,
    withheld: Vec<HistoryWithheld>,
    dead_letters: Vec<HistoryDeadLetter>,
}

pub(crate) async fn event(State(api): State<Api>, Path(event_id): Path<String>) -> Result<Json<EventView>, Problem> {
    let event_id = id(&event_id)?;
    let history = api.store.event(event_id).await?;
    let history = history.ok_or_else(|| Problem::not_found(format!("event {event_id} is not in the log")))?;
    let event = history.event;
    let registry = &api.registry;
    let of_notifications = history.notifications.iter().filter_map(|entry| entry.release_id);
    let of_withheld = history.withheld.iter().map(|withheld| withheld.release_id);
    let of_dead_letters = history.dead_letters.iter().filter_map(|letter| letter.release_id);
    registry.learn(of_notifications.chain(of_withheld).chain(of_dead_letters)).await?;
    Ok(Json(EventView {
        event_id,
        event_type: event.event_type,
        position: event.position,
        recorded_at: rfc3339(event.created_at_ms),
        source: history.source,
        event: raw(event.payload),
        projections: event.projections.and_then(raw),
        notifications: history
            .notifications
            .into_iter()
            .map(|entry| HistoryNotification::of(entry, registry))
            .collect(),
        withheld: history.withheld.into_iter().map(|withheld| HistoryWithheld::of(withheld, registry)).collect(),
        dead_letters: history.dead_letters.into_iter().map(|letter| HistoryDeadLetter::of(letter, registry)).collect(),
    }))
}

pub(crate) async fn notification(
    State(api): State<Api>,
    Path(notification_id): Path<String>,
) -> Result<Json<NotificationView>, Problem> {
    let notification_id = id(&notification_id)?;
    let history = api.store.notification(notification_id).await?;
    match &history {
        Some(NotificationHistory::Issued(entry)) => api.registry.learn(entry.release_id).await?,
        Some(NotificationHistory::Withheld(withheld)) => api.registry.learn([withheld.release_id]).await?,
        None => {}
    }
    let (source_event_id, at_ms, view) = match history {
        Some(NotificationHistory::Issued(entry)) => {
            // Entries without a topic are not sent.
            let sent = entry.topic.is_some();
            let deliveries = if sent { api.store.deliveries(entry.position).await? } else { Vec::new() };
            let deliveries = deliveries.into_iter().map(DeliveryView::of).collect();
            let (source, at_ms) = (entry.source_event_id, entry.created_at_ms);
            (source, at_ms, NotificationView { deliveries, ..NotificationView::issued(entry, &api.registry) })
        }
        Some(NotificationHistory::Withheld(withheld)) => {
            let (source, at_ms) = (Some(withheld.source_event_id), withheld.created_at_ms);
            (source, at_ms, NotificationView::withheld(withheld, &api.registry))
        }
        None => return Err(Problem::not_found(format!("notification {notification_id} does not exist"))),
    };
    let source = match source_event_id {
        Some(event_id) => api.store.event(event_id).await?,
        None => None,
    };
    let made_by = match api.store.release(view.release_id).await? {
        Some(release) => Some(MakerView::of(release, api.store.activation(view.release_id, at_ms).await?)),
        None => None,
    };
    Ok(Json(NotificationView { cause: source.and_then(|history| cause(history.event)), made_by, ..view }))
}

#[derive(Serialize)]
pub(crate) struct Reruns {
    event_id: Uuid,
    /// One for each release that projected it.
    reruns: Vec<Rerun>,
}

/// Projects an event again, and reports whether the result is the same.
pub(crate) async fn run_again(State(api): State<Api>, Path(event_id): Path<String>) -> Result<Json<Reruns>, Problem> {
    let event_id = id(&event_id)?;
    let reruns = rerun(&api.pipeline, event_id).await?;
    Ok(Json(Reruns { event_id, reruns }))
}

impl From<NotRerun> for Problem {
    fn from(error: NotRerun) -> Self {
        match error {
            NotRerun::Unknown(_) => Self::not_found(error.to_string()),
            NotRerun::Unreadable(detail) => Self::bad_request(detail),
            NotRerun::Release(error) => error.into(),
            NotRerun::Store(error) => error.into(),
            NotRerun::Overloaded(error) => Self::overloaded(error.to_string()),
        }
    }
}

fn cause(event: LogEntry) -> Option<CauseView> {
    let envelope = event.envelope().ok()?;
    let traceparent = envelope.metadata_str("traceparent").map(str::to_owned);
    Some(CauseView {
        traceparent,
        event_id: envelope.event_id,
        event_type: envelope.event_type,
        event_timestamp: envelope.event_timestamp,
        source_service: envelope.source_service,
        correlation_id: envelope.correlation_id,
        position: event.position,
        recorded_at: rfc3339(event.created_at_ms),
    })
}

fn id(text: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(text).map_err(|_| Problem::bad_request("the id must be a UUID"))
}
