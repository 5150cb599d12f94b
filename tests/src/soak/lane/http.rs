//! Over HTTP, to any replica that responds.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fastrand::Rng;
use serde_json::Value;

use super::super::load::Shared;
use super::{Lane, Written};

/// Maximum pause before a retry, in milliseconds.
const RETRY_MS: u64 = 50;
/// Number of lines in a request that is too long to be handed to the writer at once.
const STREAM_LINES: u64 = 400;

impl Lane {
    /// Posts events, valid and invalid ones.
    pub(super) async fn post_something(&mut self) -> Result<()> {
        match self.random.u32(0..100) {
            0..60 => self.one().await?,
            60..80 => {
                let lines = self.random.u64(2..8);
                self.lines(lines).await?;
            }
            80..82 => self.lines(STREAM_LINES).await?,
            82..90 => self.repeated().await?,
            90..95 => self.conflict().await?,
            _ => self.poison().await?,
        }
        Ok(())
    }

    /// Posts one event in one request.
    async fn one(&mut self) -> Result<()> {
        let written = self.write();
        self.post_until_taken(&written.event.to_string(), "application/json").await?;
        self.shared.ledger.acknowledge(written.event_id);
        Ok(())
    }

    /// Posts several lines in one request.
    async fn lines(&mut self, count: u64) -> Result<()> {
        let written: Vec<Written> = (0..count).map(|_| self.write()).collect();
        let mut body: String = written.iter().map(|written| format!("{}\n", written.event)).collect();
        // An invalid event may be among them; it gets its own answer.
        if self.random.u32(0..3) == 0 {
            let at = self.random.usize(0..=body.lines().count());
            let mut lines: Vec<String> = body.lines().map(ToOwned::to_owned).collect();
            lines.insert(at, self.malformed());
            body = lines.join("\n");
        }
        self.post_until_taken(&body, "application/x-ndjson").await?;
        written.iter().for_each(|written| self.shared.ledger.acknowledge(written.event_id));
        Ok(())
    }

    /// Posts the same event to two replicas at once, the second time with a timestamp of the next day.
    async fn repeated(&mut self) -> Result<()> {
        if self.shared.lossy.load(Ordering::Relaxed) {
            // The first text may have been published and then lost with the old primary, and the new one takes the second.
            return self.one().await;
        }
        let written = self.write();
        let mut again = written.event.clone();
        again["data"]["timestamp"] = "2026-03-03T09:15:01Z".into();
        let (text, again) = (written.event.to_string(), again.to_string());
        self.shared.ledger.allow(written.event_id, again.as_bytes());
        let shared = self.shared.clone();
        let seeds = (self.random.u64(..), self.random.u64(..));
        tokio::try_join!(
            shared.post_until_taken(&text, "application/json", Rng::with_seed(seeds.0)),
            shared.post_until_taken(&again, "application/json", Rng::with_seed(seeds.1)),
        )?;
        self.shared.ledger.acknowledge(written.event_id);
        Ok(())
    }

    /// Posts another event under the id of an accepted one.
    async fn conflict(&mut self) -> Result<()> {
        if self.sequence == 0 || self.shared.lossy.load(Ordering::Relaxed) {
            return Ok(());
        }
        let event_id = self.shared.event_id(self.number, self.random.u64(1..=self.sequence));
        let mut event = self.event(event_id, 1);
        event["data"]["total_essays"] = 7_777_777.into();
        let status = self.post_until_answered(&event.to_string()).await?;
        if status != 409 {
            bail!("another event under the id {event_id} was answered with {status}, not 409");
        }
        Ok(())
    }

    /// Posts an invalid event.
    async fn poison(&mut self) -> Result<()> {
        let text = self.malformed();
        let status = self.post_until_answered(&text).await?;
        if !(400..500).contains(&status) {
            bail!("an invalid event was answered with {status}");
        }
        Ok(())
    }

    async fn post_until_taken(&mut self, body: &str, content_type: &'static str) -> Result<()> {
        let random = self.random.fork();
        self.shared.post_until_taken(body, content_type, random).await
    }

    /// Posts until a replica returns a final answer. Returns the status.
    async fn post_until_answered(&mut self, body: &str) -> Result<u16> {
        let mut random = self.random.fork();
        loop {
            if let Ok(answer) = self.shared.post(body, "application/json", &mut random).await
                && answer.0 < 500
            {
                return Ok(answer.0);
            }
            pause(&mut random).await;
        }
    }
}

impl Shared {
    /// Posts to any replica that responds, until everything is acknowledged.
    pub(in super::super) async fn post_until_taken(
        &self,
        body: &str,
        content_type: &'static str,
        mut random: Rng,
    ) -> Result<()> {
        loop {
            match self.post(body, content_type, &mut random).await {
                Ok((200 | 201, answer)) if content_type == "application/json" || is_taken(&answer)? => return Ok(()),
                // Overload, the database is down, or no replica responds: the events may have been accepted
                // nevertheless.
                Ok((200 | 500.., _)) | Err(_) => pause(&mut random).await,
                Ok((status, answer)) => bail!("a valid event was rejected with {status}: {answer}"),
            }
        }
    }

    /// Posts lines until all have a final answer. Returns the answers.
    pub(in super::super) async fn post_lines(&self, body: &str) -> Result<Vec<Value>> {
        let mut random = Rng::new();
        loop {
            match self.post(body, "application/x-ndjson", &mut random).await {
                Ok((200, answer)) => return answer.lines().map(|line| Ok(serde_json::from_str(line)?)).collect(),
                Ok((500.., _)) | Err(_) => pause(&mut random).await,
                Ok((status, answer)) => bail!("lines were answered with {status}: {answer}"),
            }
        }
    }

    async fn post(&self, body: &str, content_type: &str, random: &mut Rng) -> Result<(u16, String)> {
        let address = self.address(random).context("no replica is up")?;
        let request = self.http.post(format!("{address}/v1/events")).header("content-type", content_type);
        let began = Instant::now();
        let response = request.body(body.to_owned()).send().await?;
        let status = response.status().as_u16();
        self.slowest_ms.fetch_max(began.elapsed().as_millis() as u64, Ordering::Relaxed);
        Ok((status, response.text().await?))
    }
}

/// Returns whether each line was accepted, now or before, or is malformed.
fn is_taken(answer: &str) -> Result<bool> {
    for line in answer.lines() {
        let line: Value = serde_json::from_str(line)?;
        match line["status"].as_str() {
            Some("accepted" | "duplicate" | "malformed") => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

async fn pause(random: &mut Rng) {
    tokio::time::sleep(Duration::from_millis(random.u64(1..RETRY_MS))).await;
}
