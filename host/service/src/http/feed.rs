//! `GET /v1/feed`: notifications as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use serde::Deserialize;
use tokio_stream::{Stream, StreamExt};

use super::Api;
use super::auth::Caller;
use super::extract::Query;
use super::problem::Problem;
use crate::clock::rfc3339;
use crate::delivery::feed::{Filter, Item};

const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    recipient: Option<String>,
    projector: Option<String>,
    from: Option<String>,
    /// The last event id, from event source clients that cannot send it as a header.
    #[serde(rename = "lastEventId")]
    last_event_id: Option<String>,
}

/// Disables response buffering in proxies that support this header.
const NOT_BUFFERED: (HeaderName, &str) = (HeaderName::from_static("x-accel-buffering"), "no");

pub(crate) async fn get(
    State(api): State<Api>,
    parameters: Query<Parameters>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<([(HeaderName, &'static str); 1], Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>), Problem> {
    let Query(Parameters { recipient, projector, from, last_event_id }) = parameters;
    let place = api.feed_places.clone().try_acquire_owned().map_err(|_| {
        Problem::overloaded("the limit on open feeds is reached (http.max_feeds); close one, or retry in a moment")
    })?;
    // A client that resumes sends the last id it saw along with the original URL. A client that saw none sends no id or an
    // empty one.
    let header = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?").to_owned());
    let seen = |id: &String| !id.is_empty();
    let last_event_id = header.filter(seen).or(last_event_id.filter(seen));
    let after = match last_event_id.or(from.filter(seen)).as_deref() {
        None | Some("now") => api.feeds.end(),
        Some("beginning") => 0,
        Some(position) => kept(&api, position).await?,
    };
    let items = api.feeds.open(after, Filter { recipient, projector });
    let events = items.map(|item| {
        Ok(match item {
            Item::Notification { position, message } => {
                Event::default().id(position.to_string()).event("notification").data(message)
            }
            Item::Expired { position, event_id, expires_at_ms } => {
                let expires_at = rfc3339(expires_at_ms);
                let data = format!(r#"{{"event_id":"{event_id}","expires_at":"{expires_at}"}}"#);
                Event::default().id(position.to_string()).event("expired").data(data)
            }
            Item::Closed(why) => Event::default().event("closed").data(format!(r#"{{"reason":"{}"}}"#, why.as_str())),
        })
    });
    // The feed ends when the caller's token is revoked or expires.
    let revoked = Arc::new(AtomicBool::new(false));
    let (noted, ended) = (revoked.clone(), api.access.clone().ended(caller));
    let until_revoked = async move {
        ended.await;
        noted.store(true, Ordering::Relaxed);
    };
    let closing = move |()| {
        let closed = || Ok(Event::default().event("closed").data(r#"{"reason":"unauthorized"}"#));
        futures_util::future::ready(revoked.load(Ordering::Relaxed).then(closed))
    };
    let last = futures_util::StreamExt::filter_map(futures_util::stream::iter([()]), closing);
    let events = futures_util::StreamExt::take_until(events, Box::pin(until_revoked)).chain(last);
    // The first event has only an id, so that a client that is disconnected before the first entry can resume from here.
    let start = futures_util::stream::iter([Ok(Event::default().id(after.to_string()))]);
    let events = start.chain(events).map(move |event| {
        // Holds the permit until the stream is dropped.
        let _ = &place;
        event
    });
    Ok(([NOT_BUFFERED], Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))))
}

/// Parses a position, and rejects it if entries after it were retired or if it is beyond the end of the log.
async fn kept(api: &Api, position: &str) -> Result<i64, Problem> {
    let position: i64 = position.parse().ok().filter(|position| *position >= 0).ok_or_else(|| {
        Problem::bad_request(
            "from, Last-Event-ID and lastEventId: must be a position; from may also be beginning or now",
        )
    })?;
    let (lowest, highest) = api.store.log_bounds().await?;
    if position < highest && position + 1 < lowest {
        let detail =
            format!("the log begins at {lowest}, and entries after {position} were retired; use from=beginning");
        return Err(Problem::retired(detail));
    }
    if position > highest {
        let detail = format!(
            "the log ends at {highest}, before {position}; it may have been restored; use from=beginning or from=now"
        );
        return Err(Problem::retired(detail));
    }
    Ok(position)
}
