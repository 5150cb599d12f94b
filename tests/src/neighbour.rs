use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use belfry_artifacts::{TEACHER_RESULTS, programs};
use belfry_model::{Envelope, Event};
use belfry_sandbox::{Configuration, Executor, Projection, Projector, Sandbox};
use serde_json::json;

use crate::{Batch, results_ready};

const CALLS: u64 = 400;
/// Concurrent calls of the rule that misbehaves.
const LOUD_CALLS: u64 = 8;

/// A well-behaved rule next to one that misbehaves, on two guest threads.
pub struct Neighbour {
    executor: Executor,
    quiet: Rule,
    loud: Rule,
}

#[derive(Clone)]
struct Rule {
    projector: Projector,
    configuration: Arc<Configuration>,
}

impl Rule {
    fn load(sandbox: &Sandbox, component: &[u8], config: &str) -> Self {
        let projector = sandbox.load(component).expect("a component that is admitted");
        let configuration =
            projector.configure(&config.parse().expect("a JSON object")).expect("a valid configuration");
        Self { projector, configuration: Arc::new(configuration) }
    }

    fn project(&self, number: u64) -> Projection {
        let text = results_ready(&Batch::number(number)).to_string();
        let envelope = Arc::new(Envelope::parse(text.as_bytes()).expect("an envelope"));
        let event = Event::from_envelope(&envelope).expect("an event");
        self.projector.project(&self.configuration, &envelope, &event)
    }
}

impl Neighbour {
    /// Creates the default rule next to a rule with this behaviour.
    pub fn new(sandbox: &Sandbox, behaviour: &str) -> Self {
        let config = json!({ "behaviour": behaviour }).to_string();
        Self {
            executor: Executor::new(2, 1024),
            quiet: Rule::load(sandbox, TEACHER_RESULTS, "{}"),
            loud: Rule::load(sandbox, programs::HOSTILE, &config),
        }
    }

    /// Measures the 99th percentile of the time from submitting a call to its result, while nothing else runs.
    pub async fn p99_quiet(&self) -> Duration {
        let mut times = Vec::with_capacity(CALLS as usize);
        for number in 0..CALLS {
            let rule = self.quiet.clone();
            let began = Instant::now();
            let answered = self.executor.run(1, move || rule.project(number)).await;
            times.push(began.elapsed());
            answered.expect("room in the queue");
        }
        times.sort();
        times[times.len() * 99 / 100]
    }

    /// Measures the same while the other rule misbehaves.
    pub async fn p99_disturbed(&self) -> Duration {
        let stop = Arc::new(AtomicBool::new(false));
        let misbehaving = {
            let (executor, loud, stop) = (self.executor.clone(), self.loud.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let calls = (0..LOUD_CALLS).map(|number| {
                        let loud = loud.clone();
                        executor.run(2, move || drop(loud.project(number)))
                    });
                    futures_util::future::join_all(calls).await;
                }
            })
        };
        let p99 = self.p99_quiet().await;
        stop.store(true, Ordering::Relaxed);
        misbehaving.await.expect("its calls end");
        p99
    }
}
