use std::fmt;
use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

use eventsource_stream::{Event, EventStreamError, Eventsource as _};
use futures_util::{Stream, StreamExt as _};
use reqwest::Url;
use reqwest::header::ACCEPT;
use serde::Deserialize;
use tokio::time::{sleep, timeout};

use super::wire::Message;
use super::{Client, ClientError, error};

/// The service says something every 15 seconds; when it misses two turns, the connection is dead.
const SILENCE: Duration = Duration::from_secs(40);
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Where in the log to start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the oldest that is kept.
    Beginning,
    /// With what comes from now on.
    #[default]
    Now,
    /// After this position.
    After(u64),
}

/// A text that says nowhere to start.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be `beginning`, `now` or a position in the log")]
pub struct InvalidStart;

impl FromStr for Start {
    type Err = InvalidStart;

    fn from_str(text: &str) -> Result<Self, InvalidStart> {
        match text {
            "beginning" => Ok(Self::Beginning),
            "now" => Ok(Self::Now),
            position => position.parse().map(Self::After).map_err(|_| InvalidStart),
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beginning => formatter.write_str("beginning"),
            Self::Now => formatter.write_str("now"),
            Self::After(position) => position.fmt(formatter),
        }
    }
}

/// Which notifications to follow.
#[derive(Clone, Debug, Default)]
pub struct FeedQuery {
    /// Only to this recipient.
    pub recipient: Option<String>,
    /// Only of this rule.
    pub projector: Option<String>,
    /// Where to start.
    pub from: Start,
}

/// A notification from the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedNotification {
    /// Its position in the log.
    pub position: u64,
    /// Its envelope, exactly as it was sent.
    pub text: String,
}

impl FeedNotification {
    /// Read the envelope.
    pub fn message(&self) -> Result<Message, serde_json::Error> {
        Message::parse(&self.text)
    }
}

/// What happens on the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedItem {
    /// A notification arrived.
    Notification(FeedNotification),
    /// The connection is gone; the next call connects again after a moment.
    Lost {
        /// Why, such as `slow-reader`.
        reason: String,
        /// How long the next call waits first.
        retry_in: Duration,
        /// False if nothing arrived yet and the feed began with `now`: what is made in the meantime is then missed.
        seamless: bool,
    },
    /// Connected again after a loss.
    Connected,
}

type Events = Pin<Box<dyn Stream<Item = Result<Event, EventStreamError<reqwest::Error>>> + Send>>;

/// Follows the notifications. After a lost connection it goes on where it was.
pub struct Feed {
    client: Client,
    query: FeedQuery,
    events: Option<Events>,
    /// The position of the last notification that arrived.
    last: Option<u64>,
    /// How long to wait before connecting again.
    wait: Duration,
}

#[derive(Deserialize)]
struct Closed {
    reason: String,
}

impl Client {
    /// Follow the notifications. Fails if the first connection does.
    pub async fn feed(&self, query: FeedQuery) -> Result<Feed, ClientError> {
        let mut feed = Feed { client: self.clone(), query, events: None, last: None, wait: FIRST_WAIT };
        feed.connect().await?;
        Ok(feed)
    }
}

impl Feed {
    /// What happens next. Ends only with an error that would come again.
    pub async fn next(&mut self) -> Result<FeedItem, ClientError> {
        let Some(events) = &mut self.events else { return self.connect_again().await };
        loop {
            let event = match timeout(SILENCE, events.next()).await {
                Err(_) => return Ok(self.lost("nothing was heard for a while".to_owned())),
                Ok(None) => return Ok(self.lost("it was closed".to_owned())),
                Ok(Some(Err(broken))) => return Ok(self.lost(reason(&broken))),
                Ok(Some(Ok(event))) => event,
            };
            match event.event.as_str() {
                "notification" => return self.notification(event).map(FeedItem::Notification),
                "closed" => {
                    let reason = serde_json::from_str::<Closed>(&event.data).map(|closed| closed.reason);
                    return Ok(self.lost(reason.unwrap_or(event.data)));
                }
                // A newer Belfry may say more.
                _ => {}
            }
        }
    }

    fn notification(&mut self, event: Event) -> Result<FeedNotification, ClientError> {
        let position = event.id.parse().map_err(|_| self.client.foreign("a notification without its position"))?;
        self.last = Some(position);
        self.wait = FIRST_WAIT;
        Ok(FeedNotification { position, text: event.data })
    }

    /// Let go of the connection and say how it goes on.
    fn lost(&mut self, reason: String) -> FeedItem {
        self.events = None;
        FeedItem::Lost { reason, retry_in: self.wait, seamless: self.last.is_some() || self.query.from != Start::Now }
    }

    async fn connect_again(&mut self) -> Result<FeedItem, ClientError> {
        sleep(self.wait).await;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        match self.connect().await {
            Ok(()) => Ok(FeedItem::Connected),
            Err(error) if error.is_passing() => Ok(self.lost(error.reason())),
            Err(error) => Err(error),
        }
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        let mut request = self.client.http.get(feed_url(&self.client, &self.query));
        request = request.header(ACCEPT, "text/event-stream");
        if let Some(last) = self.last {
            // Wins over `from`.
            request = request.header("Last-Event-ID", last.to_string());
        }
        let response = match timeout(SILENCE, self.client.send(request)).await {
            Ok(response) => response?,
            Err(_) => {
                let url = self.client.address().to_owned();
                return Err(ClientError::Interrupted { url, reason: "no answer in time".to_owned() });
            }
        };
        self.events = Some(Box::pin(response.bytes_stream().eventsource()));
        Ok(())
    }
}

fn feed_url(client: &Client, query: &FeedQuery) -> Url {
    let mut url = client.url(&["v1", "feed"]);
    {
        let mut pairs = url.query_pairs_mut();
        pairs.append_pair("from", &query.from.to_string());
        for (name, value) in [("recipient", &query.recipient), ("projector", &query.projector)] {
            if let Some(value) = value {
                pairs.append_pair(name, value);
            }
        }
    }
    url
}

fn reason(broken: &EventStreamError<reqwest::Error>) -> String {
    match broken {
        EventStreamError::Transport(transport) => error::innermost(transport),
        EventStreamError::Utf8(_) | EventStreamError::Parser(_) => "what came was no event stream".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_written_as_they_are_read() {
        for start in [Start::Beginning, Start::Now, Start::After(0), Start::After(12)] {
            assert_eq!(start.to_string().parse(), Ok(start));
        }
        assert_eq!("soon".parse::<Start>(), Err(InvalidStart));
    }

    #[test]
    fn the_address_carries_the_query() {
        let client = Client::new("http://h", None).expect("an address");
        let query = FeedQuery { recipient: Some("Åsa & co".into()), projector: None, from: Start::After(7) };
        assert_eq!(feed_url(&client, &query).as_str(), "http://h/v1/feed?from=7&recipient=%C3%85sa+%26+co");
    }
}
