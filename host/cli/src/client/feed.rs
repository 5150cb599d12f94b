use std::fmt;
use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use reqwest::Url;
use reqwest::header::ACCEPT;
use serde::Deserialize;
use sse_stream::{Sse, SseByteStream};
use tokio::time::{sleep, timeout};

use super::wire::Message;
use super::{Client, ClientError, error};

/// The service sends something at least every 15 s; after two missed turns, the connection counts as lost.
const SILENCE: Duration = Duration::from_secs(40);
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Where in the log to start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the oldest notification that is kept.
    Beginning,
    /// With notifications from now on.
    #[default]
    Now,
    /// After this position.
    After(u64),
}

/// A text that is not a valid start.
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

/// A query of the feed.
#[derive(Clone, Debug, Default)]
pub struct FeedQuery {
    /// Only notifications to this recipient.
    pub recipient: Option<String>,
    /// Only notifications made by this rule.
    pub projector: Option<String>,
    /// Where to start.
    pub from: Start,
}

/// A notification from the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedNotification {
    /// Its position in the log.
    pub position: u64,
    /// Its envelope, verbatim.
    pub text: String,
}

impl FeedNotification {
    /// Parses the envelope.
    pub fn message(&self) -> Result<Message, serde_json::Error> {
        Message::parse(&self.text)
    }
}

/// An item of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedItem {
    /// A notification arrived.
    Notification(FeedNotification),
    /// The connection was lost; the next call reconnects after a delay.
    Lost {
        /// Why, such as `slow-reader`.
        reason: String,
        /// The delay before the next call reconnects.
        retry_in: Duration,
        /// False if the connection broke before Belfry sent the position of `now`: notifications made in the meantime are
        /// then missed.
        seamless: bool,
    },
    /// Reconnected after a loss.
    Connected,
}

type Events = Pin<Box<dyn Stream<Item = Result<Sse, sse_stream::Error>> + Send>>;

/// Follows the notifications. After a lost connection it reconnects and continues where it stopped.
pub struct Feed {
    client: Client,
    query: FeedQuery,
    events: Option<Events>,
    /// The last position received: with a notification, or alone at the feed's start.
    last: Option<u64>,
    /// The delay before reconnecting.
    wait: Duration,
}

#[derive(Deserialize)]
struct Closed {
    reason: String,
}

impl Client {
    /// Follows the notifications. Returns an error if the first connection fails.
    pub async fn feed(&self, query: FeedQuery) -> Result<Feed, ClientError> {
        let mut feed = Feed { client: self.clone(), query, events: None, last: None, wait: FIRST_WAIT };
        feed.connect().await?;
        Ok(feed)
    }
}

impl Feed {
    /// Waits for the next item. Returns an error only if a retry would fail in the same way.
    pub async fn next(&mut self) -> Result<FeedItem, ClientError> {
        let Some(events) = &mut self.events else { return self.connect_again().await };
        loop {
            let event = match timeout(SILENCE, events.next()).await {
                Err(_) => return Ok(self.lost("no data was received in time".to_owned())),
                Ok(None) => return Ok(self.lost("the connection was closed".to_owned())),
                Ok(Some(Err(broken))) => return Ok(self.lost(reason(&broken))),
                Ok(Some(Ok(event))) => event,
            };
            let position = event.id.and_then(|id| id.parse().ok());
            self.last = position.or(self.last);
            let data = event.data.unwrap_or_default();
            match event.event.as_deref() {
                Some("notification") => return self.notification(position, data).map(FeedItem::Notification),
                Some("closed") => {
                    let reason = serde_json::from_str::<Closed>(&data).map(|closed| closed.reason);
                    return Ok(self.lost(reason.unwrap_or(data)));
                }
                // A newer Belfry may send events of other types.
                _ => {}
            }
        }
    }

    fn notification(&mut self, position: Option<u64>, text: String) -> Result<FeedNotification, ClientError> {
        let position = position.ok_or_else(|| self.client.foreign("a notification without a position"))?;
        self.wait = FIRST_WAIT;
        Ok(FeedNotification { position, text })
    }

    /// Drops the connection. Returns the item that reports the loss.
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
            // Takes precedence over `from`.
            request = request.header("Last-Event-ID", last.to_string());
        }
        let response = match timeout(SILENCE, self.client.send(request)).await {
            Ok(response) => response?,
            Err(_) => {
                let url = self.client.address().to_owned();
                return Err(ClientError::Interrupted { url, reason: "no response in time".to_owned() });
            }
        };
        self.events = Some(Box::pin(SseByteStream::new(response.bytes_stream())));
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

fn reason(broken: &sse_stream::Error) -> String {
    match broken {
        sse_stream::Error::Body(body) => body.downcast_ref().map_or_else(|| body.to_string(), error::innermost),
        _ => "the response is not an event stream".to_owned(),
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

    /// Starts a server that answers connections in turn and returns their requests.
    async fn serve(answers: &'static [&'static str]) -> (String, tokio::task::JoinHandle<Vec<String>>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = tokio::spawn(async move {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut connection, _) = listener.accept().await.expect("a connection");
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(connection.read_u8().await.expect("a request"));
                }
                asked.push(String::from_utf8(request).expect("text").to_lowercase());
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
                connection.write_all(format!("{head}{answer}").as_bytes()).await.expect("a reader");
            }
            asked
        });
        (url, asked)
    }

    #[tokio::test]
    async fn a_feed_that_breaks_before_anything_arrived_goes_on_where_it_began() {
        let (url, asked) = serve(&["id: 41\n\n", "id: 41\n\nid: 43\nevent: notification\ndata: {}\n\n"]).await;
        let client = Client::new(&url, None).expect("an address");
        let mut feed = client.feed(FeedQuery::default()).await.expect("a feed");
        let lost = feed.next().await.expect("a loss");
        assert!(matches!(lost, FeedItem::Lost { seamless: true, .. }), "{lost:?}");
        assert_eq!(feed.next().await.expect("a connection"), FeedItem::Connected);
        let notification = FeedNotification { position: 43, text: "{}".to_owned() };
        assert_eq!(feed.next().await.expect("a notification"), FeedItem::Notification(notification));
        let asked = asked.await.expect("both requests");
        assert!(!asked[0].contains("last-event-id"), "{}", asked[0]);
        assert!(asked[1].contains("last-event-id: 41\r\n"), "{}", asked[1]);
    }
}
