//! Values that are out of bounds, or contradict each other.

use std::path::{Path, PathBuf};

use belfry_model::is_topic_name;

use super::{Config, DeliveryMode, EventIdentity, SourceTopics, StartAt};

impl Config {
    /// Returns the first value that is out of bounds or contradicts another.
    pub(super) fn problem(&self) -> Option<String> {
        if !self.http.listen.ip().is_loopback() && self.http.tokens_file.is_none() && !self.http.require_token {
            return Some(format!(
                "http.listen: {} can be reached from other machines, so tokens are required; set http.require_token or \
                 http.tokens_file, or listen on 127.0.0.1",
                self.http.listen
            ));
        }
        let problems = [self.listen_problem(), self.blank_problem(), self.transport_problem()];
        if let Some(problem) = problems.into_iter().flatten().next() {
            return Some(problem);
        }
        let bounds = [
            ("http.denials_per_minute", self.http.denials_per_minute as usize, 0, 1 << 20),
            ("http.max_connections", self.http.max_connections, 2, 65_536),
            ("http.max_feeds", self.http.max_feeds, 1, self.http.max_connections),
            ("http.body_memory_mib", self.http.body_memory_mib, 66, 1 << 20),
            ("http.head_timeout_ms", self.http.head_timeout_ms as usize, 100, 600_000),
            ("http.body_timeout_ms", self.http.body_timeout_ms as usize, 100, 600_000),
            ("http.read_timeout_ms", self.http.read_timeout_ms as usize, 100, 600_000),
            ("http.idle_timeout_ms", self.http.idle_timeout_ms as usize, 100, 3_600_000),
            ("ops.max_connections", self.ops.max_connections, 2, 65_536),
            ("ingest.max_event_bytes", self.ingest.max_event_bytes, 1024, 16 << 20),
            ("ingest.max_in_flight", self.ingest.max_in_flight, 1, 1 << 20),
            ("writer.group_entries", self.writer.group_entries, 1, 10_000),
            ("writer.group_wait_ms", self.writer.group_wait_ms as usize, 0, 1000),
            ("sandbox.threads", self.sandbox.threads, 0, 256),
            ("sandbox.native.memory_mib", self.sandbox.native.memory_mib, 2, 4096),
            ("sandbox.dynamic.memory_mib", self.sandbox.dynamic.memory_mib, 2, 4096),
            ("sandbox.native.deadline_ms", self.sandbox.native.deadline_ms as usize, 20, 60_000),
            ("sandbox.dynamic.deadline_ms", self.sandbox.dynamic.deadline_ms as usize, 20, 60_000),
            ("releases.compile_seconds", self.releases.compile_seconds as usize, 1, 600),
            ("releases.compile_processor_seconds", self.releases.compile_processor_seconds as usize, 1, 6000),
            ("releases.compile_memory_mib", self.releases.compile_memory_mib as usize, 256, 1 << 20),
            ("releases.require_replay_hours", self.releases.require_replay_hours as usize, 0, 24 * 366),
            ("store.max_connections", self.store.max_connections as usize, 2, 1000),
            ("store.connect_timeout_ms", self.store.connect_timeout_ms as usize, 100, 60_000),
            ("store.statement_timeout_ms", self.store.statement_timeout_ms as usize, 100, 600_000),
            ("store.partition_entries", self.store.partition_entries as usize, 4, 1 << 40),
            ("store.lock_timeout_ms", self.store.lock_timeout_ms as usize, 100, 60_000),
            ("kafka.identity_window_seconds", self.kafka.identity_window_seconds as usize, 1, 30 * 24 * 3600),
            ("delivery.stall_ms", self.delivery.stall_ms as usize, 1000, 600_000),
            ("delivery.backoff_max_ms", self.delivery.backoff_max_ms as usize, 100, 600_000),
            ("retention.log_days", self.retention.log_days as usize, 1, 36_500),
            ("retention.inbox_days", self.retention.inbox_days as usize, 1, 36_500),
        ];
        for (name, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                return Some(format!("{name}: {value} is out of bounds; use {least} to {most}"));
            }
        }
        if !(0.0..=100.0).contains(&self.releases.recheck_percent) {
            let percent = self.releases.recheck_percent;
            return Some(format!("releases.recheck_percent: {percent} is out of bounds; use 0 to 100"));
        }
        if self.retention.inbox_days < self.retention.log_days {
            return Some(
                "retention.inbox_days: must be at least log_days; event ids in the log are looked up in the inbox"
                    .into(),
            );
        }
        if let Some(problem) = self.publish_problem() {
            return Some(problem);
        }
        if self.notification.topic.is_empty() || self.notification.categories.is_empty() {
            return Some("notification: needs a topic and at least one category".into());
        }
        None
    }

    fn transport_problem(&self) -> Option<String> {
        if (self.sink.kafka.enabled || !self.source_topics().is_empty()) && self.kafka.brokers.is_empty() {
            return Some("kafka.brokers: needed by sink.kafka and kafka.topics; set it, such as kafka-1:9092".into());
        }
        let window_days = self.kafka.identity_window_seconds.div_ceil(24 * 3600);
        let by_content = self.kafka.identity.values().any(|identity| *identity == EventIdentity::Content);
        if by_content && 2 * window_days > u64::from(self.retention.inbox_days) {
            return Some(
                "kafka.identity_window_seconds: event ids must be kept for twice this time; decrease it, or increase \
                 retention.inbox_days"
                    .into(),
            );
        }
        if let Some(Err(invalid)) = self.kafka.start_at.as_deref().map(str::parse::<StartAt>) {
            return Some(format!("kafka.start_at: {invalid}"));
        }
        if let Some(problem) = self.observing_problem() {
            return Some(problem);
        }
        if self.sink.redis.enabled && self.redis.url.is_none() && self.redis.url_file.is_none() {
            return Some("redis.url: needed by sink.redis; set it, such as redis://redis:6379".into());
        }
        if self.sink.redis.enabled && self.sink.kafka.enabled && !self.sink.redis.beside_kafka {
            return Some(
                "sink.redis: the platform's WebSocket service already publishes to Redis what sink.kafka sends, so \
                 teachers would be notified twice; disable one, or set sink.redis.beside_kafka = true if that service \
                 does not run"
                    .into(),
            );
        }
        let mut names = std::collections::HashSet::new();
        for source in &self.source.postgres {
            if source.name.is_empty() || !names.insert(&source.name) {
                return Some(format!(
                    "source.postgres: the name {:?} is empty or taken; give each source a unique name",
                    source.name
                ));
            }
            if source.url.is_empty() && source.url_file.is_none() {
                return Some(format!("source.postgres {}: needs url or url_file", source.name));
            }
        }
        None
    }

    fn publish_problem(&self) -> Option<String> {
        let SourceTopics::These(topics) = &self.publish.topics else { return None };
        let is_wrong = |named: &&String| *named != "*" && !is_topic_name(named.strip_suffix('*').unwrap_or(named));
        let wrong = topics.iter().find(is_wrong)?;
        Some(format!(
            "publish.topics: {wrong:?} is not a valid topic; use the name of a topic, a prefix of names followed by *, or *"
        ))
    }

    fn observing_problem(&self) -> Option<String> {
        let observing = self.delivery.mode == DeliveryMode::Observe;
        if observing && !self.source.postgres.is_empty() {
            return Some(
                "source.postgres: while delivery.mode is observe, submitted events would be removed from the services' \
                 databases and never be published; remove the sources until delivery.mode is send"
                    .into(),
            );
        }
        match &self.kafka.behind {
            Some(_) if !observing => Some(
                "kafka.behind: applies only while delivery.mode is observe; remove it before events are sent, once `belfry \
                 position show --beside GROUP` shows both groups at the same positions"
                    .into(),
            ),
            Some(group) if *group == self.kafka.group => {
                Some("kafka.behind: must be another group than kafka.group".into())
            }
            _ => None,
        }
    }

    /// Returns a problem if both listeners would use the same address.
    fn listen_problem(&self) -> Option<String> {
        let (http, ops) = (self.http.listen, self.ops.listen);
        let overlap = http.ip() == ops.ip() || http.ip().is_unspecified() || ops.ip().is_unspecified();
        (http.port() != 0 && http.port() == ops.port() && overlap)
            .then(|| format!("ops.listen: {ops} conflicts with http.listen; choose another port"))
    }

    /// Returns a problem if a setting that must not be blank is. It would be rejected late, or have another meaning.
    fn blank_problem(&self) -> Option<String> {
        let path = |path: &Option<PathBuf>| path.as_deref().map(Path::as_os_str).map(|path| path.is_empty());
        let blank = |text: &Option<String>| text.as_deref().map(|text| text.trim().is_empty());
        let texts = [
            ("http.tokens_file", path(&self.http.tokens_file)),
            ("store.url_file", path(&self.store.url_file)),
            ("redis.url", blank(&self.redis.url)),
            ("redis.url_file", path(&self.redis.url_file)),
            ("redis.ca_file", path(&self.redis.ca_file)),
            ("sandbox.cache_directory", path(&self.sandbox.cache_directory)),
            ("kafka.group", Some(self.kafka.group.trim().is_empty())),
            ("kafka.behind", blank(&self.kafka.behind)),
            ("notification.source_service", blank(&self.notification.source_service)),
            ("replica.name", blank(&self.replica.name)),
        ];
        let (name, _) = texts.into_iter().find(|(_, blank)| *blank == Some(true))?;
        Some(format!("{name}: is blank; give it a value, or leave it out"))
    }
}
