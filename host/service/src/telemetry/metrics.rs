use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

/// A handle to the metrics of this process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Renders the metrics in the Prometheus text format.
    pub fn render(&self) -> String {
        self.handle.run_upkeep();
        self.handle.render()
    }

    /// Aggregates recorded values into histograms every few seconds, until the service stops. Until it is aggregated, each
    /// value takes memory.
    pub(crate) async fn keep_up(self, stopping: CancellationToken) {
        loop {
            tokio::select! {
                _ = tokio::time::sleep(UPKEEP) => self.handle.run_upkeep(),
                () = stopping.cancelled() => return,
            }
        }
    }
}

const UPKEEP: Duration = Duration::from_secs(5);

/// Histogram buckets in seconds, from 10 µs, the duration of a call to a small rule, to 10 s, the longest that a request is
/// expected to take.
const SECONDS: [f64; 19] = [
    0.00001, 0.00002, 0.00003, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5,
    1.0, 2.0, 10.0,
];
/// Histogram buckets of numbers of log entries.
const ENTRIES: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];

/// Starts recording metrics, and returns the handle. A process has one set of metrics; all calls return the same handle.
pub fn start_metrics() -> Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS
        .get_or_init(|| {
            let handle = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
                .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_entries".into()), &ENTRIES))
                .expect("the buckets are not empty")
                .install_recorder()
                .expect("no other recorder is installed");
            metrics::gauge!("belfry_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
            Metrics { handle }
        })
        .clone()
}
