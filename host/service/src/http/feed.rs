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
    /// As clients of event sources that cannot send a header say where they were.
    #[serde(rename = "lastEventId")]
    last_event_id: Option<String>,
}

/// Proxies that know it pass the stream on as it comes.
const NOT_BUFFERED: (HeaderName, &str) = (HeaderName::from_static("x-accel-buffering"), "no");

pub(crate) async fn get(
    State(api): State<Api>,
    parameters: Query<Parameters>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<([(HeaderName, &'static str); 1], Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>), Problem> {
    let Query(Parameters { recipient, projector, from, last_event_id }) = parameters;
    let place = api.feed_places.clone().try_acquire_owned().map_err(|_| {
        Problem::overloaded("as many feeds are open as may be (http.max_feeds); close one, or try again in a moment")
    })?;
    // A client that resumes sends the last id it saw beside the address it was first given. One that saw none sends
    // nothing, or an empty text.
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
    // Whoever is not let in any more gets nothing more.
    let revoked = Arc::new(AtomicBool::new(false));
    let (noted, ended) = (revoked.clone(), api.access.clone().ended(caller));
    let until_revoked = async move {
        ended.await;
        noted.store(true, Ordering::Relaxed);
    };
    let told = move |()| {
        let closed = || Ok(Event::default().event("closed").data(r#"{"reason":"unauthorized"}"#));
        futures_util::future::ready(revoked.load(Ordering::Relaxed).then(closed))
    };
    let last = futures_util::StreamExt::filter_map(futures_util::stream::iter([()]), told);
    let events = futures_util::StreamExt::take_until(events, Box::pin(until_revoked)).chain(last);
    // Whoever loses the connection before anything arrived resumes from here all the same.
    let start = futures_util::stream::iter([Ok(Event::default().id(after.to_string()))]);
    let events = start.chain(events).map(move |event| {
        // It has its place as long as it is read.
        let _ = &place;
        event
    });
    Ok(([NOT_BUFFERED], Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))))
}

/// A position after which nothing was retired, so that the reader misses nothing.
async fn kept(api: &Api, position: &str) -> Result<i64, Problem> {
    let position: i64 = position.parse().ok().filter(|position| *position >= 0).ok_or_else(|| {
        Problem::bad_request("from, Last-Event-ID and lastEventId: must be a position, or from=beginning or from=now")
    })?;
    let (lowest, highest) = api.store.log_bounds().await?;
    if position < highest && position + 1 < lowest {
        let detail = format!("the log begins at {lowest}, entries after {position} were retired; read from=beginning");
        return Err(Problem::retired(detail));
    }
    if position > highest {
        let detail =
            format!("the log ends at {highest}, before {position}: was it restored? read from=beginning or from=now");
        return Err(Problem::retired(detail));
    }
    Ok(position)
}
