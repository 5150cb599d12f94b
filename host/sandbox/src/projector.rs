use std::sync::Arc;
use std::time::{Duration, Instant};

use belfry_model::{Envelope, Event, JsonObject, Outcome, accept};
use cpu_time::ThreadTime;
use wasmtime::component::Component;
use wasmtime::{Engine, Store, Trap};

use crate::bindings::belfry::projector::types;
use crate::bindings::{NotificationProjector, NotificationProjectorPre};
use crate::engine::EPOCH_TICK;
use crate::guest::{Guest, wasi};
use crate::link::link;
use crate::slots::{Slot, Slots};
use crate::{
    Answer, Caller, Class, Configuration, Description, Digest, Failure, Limits, NotAdmitted, Projection, Reason,
    Rejection, Sandbox, Timings,
};
use crate::{admission, contract_mismatch, convert};

/// Loading is rare and the machine may be busy, so loading has this many times the deadline of an event.
const LOADING_PATIENCE: u32 = 10;
const MAX_CODE_BYTES: usize = 64;
const MAX_REASON_BYTES: usize = 4096;

/// A loaded component. Cheap to clone.
#[derive(Clone)]
pub struct Projector {
    inner: Arc<Inner>,
}

/// Size and duration of a compilation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compilation {
    /// Size of the component, in bytes.
    pub component_bytes: usize,
    /// Size of the compiled component, in bytes.
    pub compiled_bytes: usize,
    /// How long compiling took. The cache keeps this time, so it is that of the actual compilation.
    pub time: Duration,
}

/// Facts about a component that are known before the first call.
pub(crate) struct LoadInfo {
    pub(crate) compilation: Compilation,
    pub(crate) imports: Vec<String>,
}

struct Inner {
    digest: Digest,
    class: Class,
    limits: Limits,
    engine: Engine,
    pre: NotificationProjectorPre<Guest>,
    description: Description,
    categories: Vec<String>,
    made: LoadInfo,
    slots: Arc<Slots>,
}

impl Projector {
    pub(crate) fn new(
        sandbox: &Sandbox,
        digest: Digest,
        class: Class,
        (bytes, component): (&[u8], &Component),
        made: LoadInfo,
    ) -> Result<Self, NotAdmitted> {
        let engine = sandbox.engine(class).clone();
        let pre = link(component, &engine).map_err(|error| {
            let difference = contract_mismatch::difference(bytes).unwrap_or_else(|| format!("{error:#}"));
            let detail = format!(
                "does not fit {}: {difference}; rebuild it with the SDK of this host, or against the world in its wit/",
                admission::contract()
            );
            NotAdmitted::new(Reason::ContractMismatch, detail)
        })?;
        let mut inner = Inner {
            digest,
            class,
            limits: *sandbox.settings().limits(class),
            engine,
            pre,
            description: nameless(),
            categories: sandbox.settings().categories.clone(),
            made,
            slots: sandbox.slots(),
        };
        inner.description = inner.describe()?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns the digest of the component's bytes.
    pub fn digest(&self) -> Digest {
        self.inner.digest
    }

    /// Returns the component's class.
    pub fn class(&self) -> Class {
        self.inner.class
    }

    /// Returns the limits of one call.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Returns the names of the component's imports.
    pub fn imports(&self) -> &[String] {
        &self.inner.made.imports
    }

    /// Returns size and duration of the compilation.
    pub fn compilation(&self) -> Compilation {
        self.inner.made.compilation
    }

    /// Returns the component's description.
    pub fn description(&self) -> &Description {
        &self.inner.description
    }

    /// Checks a release's configuration: first against the description, then with the rule's `check-config`.
    pub fn configure(&self, given: &JsonObject) -> Result<Configuration, NotAdmitted> {
        let refuse = |detail: String| NotAdmitted::new(Reason::BadConfiguration, detail);
        let configuration = Configuration::new(given, &self.inner.description).map_err(refuse)?;
        let mut run = self
            .inner
            .start(Caller::Beside, Arc::new(configuration.clone()), None, self.inner.limits.deadline * LOADING_PATIENCE)
            .map_err(|failure| refuse(failure.to_string()))?;
        let checked = run.bindings.belfry_projector_projector().call_check_config(&mut run.store);
        match checked {
            Ok(Ok(())) => Ok(configuration),
            Ok(Err(words)) => Err(refuse(words)),
            Err(error) => Err(refuse(format!("check-config failed: {}", run.failure(&error)))),
        }
    }

    /// Turns a live event into notifications, in a fresh instance.
    ///
    /// A failure that is the host's fault is retried immediately: the guest timed out although its thread did not get
    /// that much processor time. If all attempts together got less processor time than one attempt may use, the host is
    /// at fault; see [`Projection::starved`].
    pub fn project(&self, configuration: &Arc<Configuration>, envelope: &Arc<Envelope>, event: &Event) -> Projection {
        self.project_for(Caller::Live, configuration, envelope, event)
    }

    /// Turns an event into notifications as [`Projector::project`] does, but for any caller. A caller that is not live
    /// may have to wait for room.
    pub fn project_for(
        &self,
        caller: Caller,
        configuration: &Arc<Configuration>,
        envelope: &Arc<Envelope>,
        event: &Event,
    ) -> Projection {
        let inner = &*self.inner;
        let mut deadline = inner.limits.deadline;
        let mut had_in_all = Duration::ZERO;
        let mut attempt = 1;
        loop {
            let processor_time = ThreadTime::now();
            let projection = inner.project_once(caller, configuration, envelope, event, deadline);
            let had = processor_time.elapsed();
            had_in_all += had;
            if projection.outcome() != Outcome::TimedOut || had >= deadline {
                return projection;
            }
            if attempt == caller.attempts() {
                let starved = had_in_all < inner.limits.deadline;
                return if starved { projection.into_starved(had_in_all) } else { projection };
            }
            attempt += 1;
            deadline *= 2;
        }
    }

    /// Returns an instance that is reused for all calls, to measure the cost of a fresh one. The service never does
    /// this.
    pub fn warm(&self, configuration: &Arc<Configuration>, envelope: &Arc<Envelope>) -> Result<Warm, Failure> {
        let run =
            self.inner.start(Caller::Live, configuration.clone(), Some(envelope.clone()), Duration::from_secs(3600))?;
        Ok(Warm { run, projector: self.clone() })
    }
}

/// An instance that is reused for all calls; see [`Projector::warm`].
pub struct Warm {
    run: Run,
    projector: Projector,
}

impl Warm {
    /// Turns an event into notifications as [`Projector::project`] does, but in this instance.
    pub fn project(&mut self, envelope: &Envelope, event: &Event) -> Answer {
        self.projector.inner.call(&mut self.run, envelope, event)
    }
}

/// An instance and its deadline.
struct Run {
    store: Store<Guest>,
    bindings: NotificationProjector,
    deadline: Duration,
    /// Released after the instance is dropped.
    _slot: Option<Slot>,
}

impl Run {
    fn failure(&mut self, error: &wasmtime::Error) -> Failure {
        failure(self.store.data_mut(), error, self.deadline)
    }
}

impl Inner {
    fn start(
        &self,
        caller: Caller,
        configuration: Arc<Configuration>,
        event: Option<Arc<Envelope>>,
        deadline: Duration,
    ) -> Result<Run, Failure> {
        let slot = self.slots.take(caller);
        let mut store = Store::new(&self.engine, Guest::new(&self.limits, configuration, event));
        store.limiter(|guest| &mut guest.limiter);
        store.set_hostcall_fuel(8 << 20);
        // N ticks last between N-1 and N intervals. One more tick ensures that a guest gets its full time; fewer than
        // three would be too coarse.
        let ticks = deadline.as_millis().div_ceil(EPOCH_TICK.as_millis()) + 1;
        store.set_epoch_deadline(u64::try_from(ticks.max(3)).unwrap_or(u64::MAX));
        match self.pre.instantiate(&mut store) {
            Ok(bindings) => Ok(Run { store, bindings, deadline, _slot: slot }),
            Err(error) => {
                let failure = failure(store.data_mut(), &error, deadline);
                drop((store, slot));
                Err(Failure { detail: format!("while starting: {}", failure.detail), ..failure })
            }
        }
    }

    fn describe(&self) -> Result<Description, NotAdmitted> {
        let refuse = |detail: String| NotAdmitted::new(Reason::BadDescription, detail);
        let failed = |failure: Failure| {
            let detail = format!("describe failed: {failure}");
            match failure.outcome {
                Outcome::MemoryLimit | Outcome::TableLimit => NotAdmitted::new(Reason::OverLimit, detail),
                _ => refuse(detail),
            }
        };
        let patience = self.limits.deadline * LOADING_PATIENCE;
        let mut run = self.start(Caller::Beside, Arc::default(), None, patience).map_err(failed)?;
        match run.bindings.belfry_projector_projector().call_describe(&mut run.store) {
            Ok(description) => {
                let description = convert::description(description);
                description.problem().map_or(Ok(description), |problem| Err(refuse(format!("description: {problem}"))))
            }
            Err(error) => Err(failed(run.failure(&error))),
        }
    }

    fn project_once(
        &self,
        caller: Caller,
        configuration: &Arc<Configuration>,
        envelope: &Arc<Envelope>,
        event: &Event,
        deadline: Duration,
    ) -> Projection {
        let began = Instant::now();
        let mut run = match self.start(caller, configuration.clone(), Some(envelope.clone()), deadline) {
            Ok(run) => run,
            Err(failure) => {
                let timings = Timings { instantiate: began.elapsed(), ..Timings::default() };
                return Projection { answer: Answer::Failed(failure), log: Vec::new(), timings, starved: false };
            }
        };
        let instantiated = Instant::now();
        #[cfg(feature = "failpoints")]
        fail::fail_point!("project.call");
        let answer = self.call(&mut run, envelope, event);
        let called = Instant::now();
        let log = std::mem::take(&mut run.store.data_mut().log);
        let memory_bytes = run.store.data().limiter.memory_bytes();
        drop(run);
        let timings = Timings {
            instantiate: instantiated - began,
            call: called - instantiated,
            drop: called.elapsed(),
            memory_bytes,
        };
        Projection { answer, log, timings, starved: false }
    }

    fn call(&self, run: &mut Run, envelope: &Envelope, event: &Event) -> Answer {
        let subscription =
            self.description.subscriptions.iter().find(|wanted| wanted.event_type == envelope.event_type);
        let subject = envelope.subject(subscription.and_then(|subscription| subscription.subject.as_deref()));
        let context = convert::context(envelope, subject);
        let event = convert::event(event, envelope);
        let returned = run.bindings.belfry_projector_projector().call_project(&mut run.store, &event, &context);
        let returned = returned.and_then(|answer| {
            wasi::flush_standard_streams(run.store.data_mut())?;
            Ok(answer)
        });
        match returned {
            Ok(Ok(answer)) => self.accept(answer, envelope),
            Ok(Err(rejection)) => rejected(rejection),
            Err(error) => Answer::Failed(run.failure(&error)),
        }
    }

    fn accept(&self, answer: types::Answer, envelope: &Envelope) -> Answer {
        match accept(convert::answer(answer), envelope.event_id, &self.description.name, &self.categories) {
            Ok(notifications) => Answer::Notifications(notifications),
            Err(refusal) => Answer::Failed(Failure { outcome: refusal.outcome, detail: refusal.detail }),
        }
    }
}

fn rejected(rejection: types::Rejection) -> Answer {
    let types::Rejection { code, mut reason } = rejection;
    let kebab = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if code.is_empty() || code.len() > MAX_CODE_BYTES || !code.bytes().all(kebab) {
        let detail = format!("rejection: the code must be kebab-case of up to {MAX_CODE_BYTES} bytes");
        return Answer::Failed(Failure { outcome: Outcome::InvalidOutput, detail });
    }
    reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
    Answer::Rejected(Rejection { code, reason })
}

/// Determines why a call into a guest failed.
fn failure(guest: &mut Guest, error: &wasmtime::Error, deadline: Duration) -> Failure {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.clone();
    }
    if let Some((outcome, limit)) = guest.limiter.refused() {
        let detail = format!("stopped after a request for more than {limit} was refused: {}", first_line(error));
        return Failure { outcome, detail };
    }
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        // Each caller has its share of the pools, so one of them exceeded it.
        let detail = "no room for another instance; try again when the host is less busy".into();
        return Failure { outcome: Outcome::TimedOut, detail };
    }
    let (outcome, detail) = match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => {
            (Outcome::TimedOut, format!("no answer within {} ms; do less work for each event", deadline.as_millis()))
        }
        Some(Trap::StackOverflow) => (Outcome::Trapped, "stack overflow; recurse less deeply".into()),
        Some(trap) => {
            (Outcome::Trapped, format!("{trap}; the cause may be a panic or an uncaught exception, see the rule's log"))
        }
        None if is_hostcall_fuel(error) => {
            (Outcome::OutputLimit, "more than 8 MiB passed to the host in one call; return less".into())
        }
        None => (Outcome::InvalidOutput, first_line(error)),
    };
    Failure { outcome, detail }
}

/// Returns whether a call ran out of hostcall fuel. The engine's error for this has no public type.
fn is_hostcall_fuel(error: &wasmtime::Error) -> bool {
    error.root_cause().to_string().contains("fuel allocated for hostcalls")
}

fn first_line(error: &wasmtime::Error) -> String {
    error.root_cause().to_string().lines().next().unwrap_or_default().to_owned()
}

/// Returns the placeholder for the description until `describe` has been called.
fn nameless() -> Description {
    Description {
        name: String::new(),
        version: String::new(),
        summary: String::new(),
        subscriptions: Vec::new(),
        config: Vec::new(),
        requires: Vec::new(),
    }
}
