use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::Client;

impl Client {
    /// Returns the configuration of the source's consumer, which neither commits nor skips anything automatically.
    /// `instance` makes it a static member of the group.
    pub(crate) fn consumer(&self, group: &str, instance: Option<&str>) -> ClientConfig {
        let mut config = self.base();
        for (name, value) in [
            // A record is returned as soon as it is available. An empty response takes no longer than this.
            ("fetch.min.bytes", "1"),
            ("fetch.wait.max.ms", "100"),
            ("fetch.error.backoff.ms", "50"),
            // How soon fetching resumes after the queue was full. The default, one second, would be a pause in each
            // catch-up.
            ("fetch.queue.backoff.ms", "10"),
            // The size of the queue of fetched records.
            ("queued.max.messages.kbytes", "8192"),
            ("check.crcs", "true"),
            // As long as a lease: a replica that was killed blocks its partitions no longer than its sinks.
            ("session.timeout.ms", "15000"),
            // How soon new partitions are detected.
            ("topic.metadata.refresh.interval.ms", "30000"),
            // The lag is measured from the statistics.
            ("statistics.interval.ms", "5000"),
        ] {
            // The operator's value takes precedence.
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        // The size of a broker's response. The client rejects a value below the size of a message, if that is configured.
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
