//! The steps of the demo.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use owo_colors::OwoColorize as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::arrivals::{Arrival, Arrivals};
use super::counters;
use super::failed;
use super::server::Server;
use crate::client::wire::PublishStatus;
use crate::client::{Client, ClientError, Upload};
use crate::commands::explain;
use crate::commands::explain::ExplainArgs;
use crate::escape::escape;
use crate::output::{Format, Output, counted, table};
use crate::priority::coloured_priority;

/// Envelopes written by the platform's own models.
const SAMPLES: [&str; 4] = [
    include_str!("../../../../../plugins/teacher-results/cases/events/batch_results_ready.success.json"),
    include_str!("../../../../../plugins/teacher-results/cases/events/batch_results_ready.with_failures.json"),
    include_str!("../../../../../plugins/teacher-results/cases/events/batch_assessment_completed.json"),
    include_str!("../../../../../plugins/teacher-results/cases/events/batch_assessment_completed.empty.json"),
];
const MANY: usize = 200;
const PROJECTOR: &str = "teacher-results";

/// A run of the demo.
pub(super) struct Story<'a> {
    server: &'a Server,
    output: &'a Output,
    client: Client,
    arrivals: Arrivals,
    tally: Tally,
}

/// Counts that the service's metrics must confirm.
#[derive(Default)]
struct Tally {
    accepted: u64,
    duplicates: u64,
    conflicts: u64,
    malformed: u64,
    notifications: u64,
    dead_letters: u64,
    waits: Vec<Duration>,
}

impl<'a> Story<'a> {
    /// Subscribes to the live feed.
    pub(super) async fn begin(server: &'a Server, output: &'a Output) -> anyhow::Result<Self> {
        let client = server.client()?;
        let arrivals = Arrivals::follow(&client).await?;
        let story = Self { server, output, client, arrivals, tally: Tally::default() };
        story.chapter(&format!("Belfry serves on {}, with an empty SQLite database", server.http()))?;
        Ok(story)
    }

    /// Runs all steps.
    pub(super) async fn tell(mut self, second_release: Vec<u8>) -> anyhow::Result<()> {
        self.chapter("Events are posted; each notification is shown as it arrives on the live feed")?;
        let mut before = Vec::new();
        for sample in SAMPLES {
            before.push(self.show(sample.to_owned()).await?);
        }
        self.change_the_rule(second_release).await?;
        let mut after = Vec::new();
        for sample in SAMPLES {
            after.push(self.show(under_a_new_id(sample, b"again")?).await?);
        }
        self.compare(&before, &after)?;
        self.keep_going().await?;
        self.make_trouble().await?;
        self.explain(&after).await?;
        self.summarize().await
    }

    /// Posts an event that must lead to one notification, and waits for its arrival.
    async fn notify(&mut self, event: String) -> anyhow::Result<Arrival> {
        let posted_at = Instant::now();
        let published = self.client.publish(event).await?;
        if published.status != PublishStatus::Accepted {
            return Err(failed(format!("a new event was not accepted but is {}", published.status.as_str())));
        }
        self.tally.accepted += 1;
        self.tally.notifications += published.notifications.len() as u64;
        self.tally.dead_letters += published.dead_letters.len() as u64;
        let event_id = published.event_id.map(|id| id.to_string()).unwrap_or_default();
        let [notification] = published.notifications.as_slice() else {
            let count = counted(published.notifications.len(), "notification");
            return Err(failed(format!("event {event_id} led to {count} instead of 1")));
        };
        let arrival = self.arrivals.get(notification.event_id).await?;
        self.tally.waits.push(arrival.at.saturating_duration_since(posted_at));
        Ok(arrival)
    }

    /// Posts an event that must lead to one notification, and shows the notification.
    async fn show(&mut self, event: String) -> anyhow::Result<Arrival> {
        let arrival = self.notify(event).await?;
        let wait = self.tally.waits.last().copied().unwrap_or_default();
        let Arrival { message, text, .. } = &arrival;
        let ms = wait.as_secs_f64() * 1000.0;
        self.line(&format!(
            "  {} {:<16} {}  {}",
            coloured_priority(&message.data.priority),
            escape(&message.data.teacher_id),
            escape(message.text().unwrap_or_default()),
            format!("{ms:.1} ms").dimmed()
        ))?;
        let envelope: Value = serde_json::from_str(text)?;
        self.value(&json!({ "step": "notification", "ms": ms, "notification": envelope }))?;
        Ok(arrival)
    }

    /// Posts many more events, to give the summary something to count.
    async fn keep_going(&mut self) -> anyhow::Result<()> {
        self.chapter(&format!("{MANY} more events, one after another"))?;
        for number in 0..MANY {
            let sample = SAMPLES[number % SAMPLES.len()];
            self.notify(under_a_new_id(sample, &number.to_be_bytes())?).await?;
        }
        self.line(&format!("  {MANY} notifications arrived"))
    }

    async fn change_the_rule(&mut self, component: Vec<u8>) -> anyhow::Result<()> {
        self.chapter("The rule is changed while Belfry runs")?;
        let note = Some("failures need attention".to_owned());
        let pushed = self.client.push(Upload { component, note, ..Upload::default() }).await?;
        let release = pushed.release;
        if release.projector != PROJECTOR {
            return Err(failed(format!("the second release is of {} instead of {PROJECTOR}", release.projector)));
        }
        let rollout = self.client.activate(PROJECTOR, release.release_id).await?;
        if !rollout.active.active || rollout.active.release_id != release.release_id {
            return Err(failed("the second release is not active after its activation"));
        }
        let summary = release.description.map(|description| description.summary).unwrap_or_default();
        self.line(&format!("  {} serves now: {}", escape(&release.label).bold(), escape(&summary)))?;
        self.value(&json!({ "step": "activated", "release": release.label }))
    }

    /// Compares the notifications of the same batches by both releases.
    fn compare(&self, before: &[Arrival], after: &[Arrival]) -> anyhow::Result<()> {
        let mut rows = Vec::new();
        for (before, after) in before.iter().zip(after) {
            let (old, new) = (facts(before), facts(after));
            for ((what, old), (_, new)) in old.into_iter().zip(new).filter(|(old, new)| old != new) {
                rows.push([text(&before.message.data.payload["batch_id"]), what.to_owned(), old, new]);
            }
        }
        if rows.is_empty() {
            return Err(failed("the changed rule changed nothing"));
        }
        self.chapter("What the change did, batch by batch; everything else is unchanged")?;
        for row in &rows {
            let [batch, what, old, new] = row;
            self.value(&json!({ "step": "changed", "batch": batch, "field": what, "before": old, "after": new }))?;
        }
        self.line(&table(
            ["  batch", "field", "before", "after"],
            rows.into_iter().map(|mut row| {
                row[0].insert_str(0, "  ");
                row
            }),
        ))
    }

    /// Posts a duplicate, a conflicting event and a malformed event.
    async fn make_trouble(&mut self) -> anyhow::Result<()> {
        self.chapter("Trouble: a duplicate, a conflict and a malformed event")?;
        let duplicate = self.client.publish(SAMPLES[0]).await?;
        self.tally.duplicates += u64::from(duplicate.status == PublishStatus::Duplicate);
        self.show_answer("the same event again", duplicate.status.as_str(), "it has no second effect", &duplicate)?;

        let mut conflicting: Value = serde_json::from_str(SAMPLES[0])?;
        conflicting["data"]["completed_essays"] = json!(1);
        let (kind, detail) = self.refusal(conflicting.to_string()).await?;
        self.tally.conflicts += u64::from(kind == "conflicting-event");
        self.show_answer("the same id, other content", &kind, &detail, &Value::Null)?;

        let mut malformed: Value = serde_json::from_str(&under_a_new_id(SAMPLES[1], b"malformed")?)?;
        malformed["data"].as_object_mut().context("data is an object")?.remove("batch_id");
        let (kind, detail) = self.refusal(malformed.to_string()).await?;
        self.tally.malformed += u64::from(kind == "malformed-event");
        self.show_answer("an event without its batch", &kind, &detail, &Value::Null)?;
        if (self.tally.duplicates, self.tally.conflicts, self.tally.malformed) != (1, 1, 1) {
            return Err(failed("not all three events were recognised, see above"));
        }
        Ok(())
    }

    /// Posts an event that must be refused. Returns the kind of the problem and its explanation.
    async fn refusal(&self, event: String) -> anyhow::Result<(String, String)> {
        match self.client.publish(event).await {
            Err(ClientError::Refused { problem, .. }) => {
                let pointer = problem.pointer.as_deref().map(|pointer| format!("{pointer}: ")).unwrap_or_default();
                Ok((problem.kind().to_owned(), format!("{pointer}{}", problem.detail)))
            }
            Err(error) => Err(error.into()),
            Ok(published) => Ok((published.status.as_str().to_owned(), "the event was not refused".to_owned())),
        }
    }

    async fn explain(&self, notified: &[Arrival]) -> anyhow::Result<()> {
        let changed = notified.get(1).context("the second sample has failures")?;
        let id = changed.message.event_id;
        self.chapter(&format!("Why was {} notified? $ belfry explain {id}", escape(&changed.message.data.teacher_id)))?;
        explain::run(&ExplainArgs { id, rerun: false }, &self.client, self.output).await?;
        Ok(())
    }

    /// Compares the demo's own counts with the service's metrics and log.
    async fn summarize(mut self) -> anyhow::Result<()> {
        let metrics = self.server.metrics().await?;
        let events =
            |outcome: &str| counters::sum(&metrics, "belfry_events_total", Some(&format!("outcome=\"{outcome}\"")));
        let expected = self.tally.notifications;
        let again = Arrivals::follow(&self.client).await?.count(expected as usize).await as u64;
        let live = self.arrivals.count(expected as usize).await as u64;
        let tally = &mut self.tally;
        let checks = [
            ("accepted events in /metrics", events("accepted"), tally.accepted),
            ("duplicates in /metrics", events("duplicate"), tally.duplicates),
            ("conflicts in /metrics", events("conflict"), tally.conflicts),
            ("malformed events in /metrics", events("malformed"), tally.malformed),
            ("notifications in /metrics", counters::sum(&metrics, "belfry_notifications_total", None), expected),
            (
                "dead letters in /metrics",
                counters::sum(&metrics, "belfry_dead_letters_total", None),
                tally.dead_letters,
            ),
            ("notifications on the live feed", live, expected),
            ("notifications in the log", again, expected),
        ];
        for (what, counted, reported) in checks {
            if counted != reported {
                return Err(failed(format!("{what}: {counted} instead of {reported}")));
            }
        }
        if let Some(trouble) = self.server.troubles().first() {
            return Err(failed(format!("the service's log has a warning or an error: {trouble}")));
        }
        tally.waits.sort_unstable();
        let percentile = |percent: usize| {
            let place = (tally.waits.len() - 1) * percent / 100;
            tally.waits[place].as_secs_f64() * 1000.0
        };
        let (p50, p99) = (percentile(50), percentile(99));
        let summary = format!(
            "  {} events, {expected} notifications, {} duplicate, {} conflict, {} malformed, {} dead letters\n  \
             from posting to arrival: p50 {p50:.1} ms, p99 {p99:.1} ms\n  \
             /metrics, the live feed and the log agree; the service's log has no warnings or errors",
            tally.accepted, tally.duplicates, tally.conflicts, tally.malformed, tally.dead_letters
        );
        let value = json!({
            "step": "summary", "events": tally.accepted, "notifications": expected, "duplicates": tally.duplicates,
            "conflicts": tally.conflicts, "malformed": tally.malformed, "dead_letters": tally.dead_letters,
            "p50_ms": p50, "p99_ms": p99,
        });
        self.chapter("Summary")?;
        self.line(&summary)?;
        self.value(&value)
    }

    fn chapter(&self, title: &str) -> anyhow::Result<()> {
        self.line(&format!("\n{}", title.bold()))
    }

    fn show_answer(
        &self,
        what: &str,
        status: &str,
        detail: &str,
        answer: &impl serde::Serialize,
    ) -> anyhow::Result<()> {
        self.line(&format!("  {what:<28} → {} {}", escape(status).yellow(), escape(detail)))?;
        self.value(&json!({ "step": "trouble", "what": what, "status": status, "detail": detail, "answer": answer }))
    }

    /// Writes a line, if the output is text.
    fn line(&self, text: &str) -> anyhow::Result<()> {
        if self.output.format() == Format::Text {
            self.output.text(text)?;
        }
        Ok(())
    }

    /// Writes a value, if the output is JSON.
    fn value(&self, value: &Value) -> anyhow::Result<()> {
        if self.output.format() == Format::Json {
            self.output.json(value)?;
        }
        Ok(())
    }
}

/// Returns the same event under a new id. Its times are unchanged.
fn under_a_new_id(sample: &str, name: &[u8]) -> anyhow::Result<String> {
    let mut event: Value = serde_json::from_str(sample)?;
    let id: Uuid = event["event_id"].as_str().context("an event has an id")?.parse()?;
    event["event_id"] = json!(Uuid::new_v5(&id, name));
    Ok(event.to_string())
}

/// Returns the parts of a notification that the rule decides.
fn facts(Arrival { message, .. }: &Arrival) -> [(&'static str, String); 4] {
    let data = &message.data;
    [
        ("priority", data.priority.to_string()),
        ("action required", if data.action_required { "yes" } else { "no" }.to_owned()),
        ("deadline", data.deadline_timestamp.as_deref().unwrap_or("none").to_owned()),
        ("message", message.text().unwrap_or_default().to_owned()),
    ]
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
