use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::Client;

impl Client {
    /// For the consumer of the source: nothing is committed by itself, and nothing is skipped by itself. `instance` makes
    /// it a static member of the group.
    pub(crate) fn consumer(&self, group: &str, instance: Option<&str>) -> ClientConfig {
        let mut config = self.base();
        for (name, value) in [
            // A record is handed over as soon as it is there; an empty answer is waited for no longer than this.
            ("fetch.min.bytes", "1"),
            ("fetch.wait.max.ms", "100"),
            ("fetch.error.backoff.ms", "50"),
            // How soon fetching goes on after the queue was full; a second, the default, would be a pause in each catch-up.
            ("fetch.queue.backoff.ms", "10"),
            // What waits to be taken.
            ("queued.max.messages.kbytes", "8192"),
            ("check.crcs", "true"),
            // As long as a lease: a replica that was killed holds up its partitions no longer than its sinks.
            ("session.timeout.ms", "15000"),
            // New partitions are found so soon.
            ("topic.metadata.refresh.interval.ms", "30000"),
            // What the lag is measured by.
            ("statistics.interval.ms", "5000"),
        ] {
            // What an operator chose stands.
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        // An answer of the broker's. The client refuses less than the size of a message, if that is chosen.
        let sizes = ["fetch.max.bytes", "message.max.bytes", "receive.message.max.bytes"];
        if sizes.iter().all(|name| config.get(name).is_none()) {
            config.set("fetch.max.bytes", "8388608");
        }
        config.set("group.id", group);
        if let Some(instance) = instance {
            config.set("group.instance.id", instance);
        }
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        config.set("partition.assignment.strategy", "cooperative-sticky");
        config.set("isolation.level", "read_committed");
        config.set("auto.offset.reset", "error");
        config.set("allow.auto.create.topics", "false");
        config.set_log_level(RDKafkaLogLevel::Warning);
        config
    }
}
