//! `belfry tail`.

use clap::Args;

use crate::Exit;
use crate::client::Start;
use crate::client::{Client, FeedItem, FeedNotification, FeedQuery};
use crate::escape::escape;
use crate::output::{Format, Output};
use crate::priority::coloured_priority;

/// Arguments of `tail`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  belfry tail
  belfry tail --recipient teacher-anna --from beginning
  belfry --output json tail --count 1

After a lost connection it reconnects and continues where it stopped.")]
pub struct TailArgs {
    /// Show only notifications to this recipient
    #[arg(long)]
    pub recipient: Option<String>,
    /// Show only notifications made by this rule
    #[arg(long)]
    pub projector: Option<String>,
    /// Where to start: `beginning`, `now`, or after a position in the log
    #[arg(long, value_name = "beginning|now|POSITION", default_value_t = Start::Now)]
    pub from: Start,
    /// Number of notifications to show before exiting; default: no limit
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

/// Shows notifications as they arrive.
pub async fn run(args: &TailArgs, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    let query = FeedQuery { recipient: args.recipient.clone(), projector: args.projector.clone(), from: args.from };
    let mut feed = client.feed(query).await?;
    output.note(format!("following the notifications of {}", client.address()));
    let mut left = args.count;
    while left != Some(0) {
        match feed.next().await? {
            FeedItem::Notification(notification) => {
                show(&notification, output)?;
                left = left.map(|left| left - 1);
            }
            FeedItem::Lost { reason, retry_in, seamless } => {
                let gap = if seamless { "" } else { "; notifications made in the meantime are not shown" };
                let seconds = retry_in.as_secs_f64();
                output.note(format!("lost the feed: {reason}; reconnecting in {seconds:.2} s{gap}"));
            }
            FeedItem::Connected => output.note("reconnected"),
        }
    }
    Ok(Exit::Ok)
}

fn show(notification: &FeedNotification, output: &Output) -> anyhow::Result<()> {
    match output.format() {
        Format::Json => output.verbatim(&notification.text)?,
        Format::Text => output.text(&line(notification))?,
    }
    Ok(())
}

/// Formats a notification as a line. Shows one that cannot be parsed verbatim: hiding it would be misleading.
fn line(notification: &FeedNotification) -> String {
    let Ok(message) = notification.message() else {
        return format!("{}  {}", notification.position, escape(&notification.text));
    };
    let text = message.text().map_or_else(|| "-".to_owned(), escape);
    format!(
        "{}  {}  {}  {}  {text}  {}",
        escape(&message.event_timestamp),
        coloured_priority(&message.data.priority),
        escape(&message.data.teacher_id),
        escape(&message.data.notification_type),
        message.event_id
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let line = line(&FeedNotification { position: 12, text: text.to_owned() });
        anstream::adapter::strip_str(&line).to_string()
    }

    #[test]
    fn a_notification_is_one_line_without_control_characters() {
        let text = r#"{"event_id":"fe17901f-b267-53fc-ab06-b54d181baae1","event_timestamp":"2026-03-02T09:15:01Z","data":{"teacher_id":"teacher-\u001b[2J","notification_type":"batch_results_ready","category":"c","priority":"high","payload":{"message":"two\nlines"},"action_required":false,"deadline_timestamp":null,"correlation_id":"d","batch_id":null,"class_id":null,"timestamp":"t"}}"#;
        assert_eq!(
            shown(text),
            r"2026-03-02T09:15:01Z  high       teacher-\u{1b}[2J  batch_results_ready  two\nlines  fe17901f-b267-53fc-ab06-b54d181baae1"
        );
    }

    #[test]
    fn what_is_not_understood_is_shown_nevertheless() {
        assert_eq!(shown("{\"a\":\"\u{9b}\"}"), r#"12  {"a":"\u{9b}"}"#);
    }
}
