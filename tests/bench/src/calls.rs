//! One event through the default rule: in a fresh instance, in a reused one, and natively; and an event for which the
//! rule returns nothing.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use belfry_artifacts::TEACHER_RESULTS;
use belfry_model::{Envelope, Event};
use belfry_sandbox::{Class, Compiler, Configuration, Limits, Projector, Sandbox, SandboxSettings, Timings};
use belfry_sdk::Projector as _;
use teacher_results::TeacherResults;

use crate::figures::{Figures, micros, percentile};

const CALLS: usize = 20_000;
const WARM_UP: usize = 2_000;
const SAMPLE: &str = include_str!("../../../plugins/teacher-results/cases/events/batch_results_ready.success.json");

pub(crate) fn sandbox() -> Result<Sandbox> {
    let settings = SandboxSettings {
        concurrency: 2,
        native: Limits::of(Class::Native),
        dynamic: Limits::of(Class::Dynamic),
        categories: vec!["processing_results".into()],
        cache_directory: None,
        compiler: Compiler::Here,
    };
    Ok(Sandbox::new(settings)?)
}

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    let sandbox = sandbox()?;
    let rule = sandbox.load(TEACHER_RESULTS)?;
    let configuration = Arc::new(rule.configure(&belfry_model::JsonObject::default())?);
    let (envelope, event) = read(SAMPLE)?;

    let (mut fresh, timings) = fresh(&rule, &configuration, &envelope, &event);
    let mut reused = reused(&rule, &configuration, &envelope, &event)?;
    let mut native = native(&envelope, &event);
    // A type that the rule does not know: the event goes in, an empty list comes out.
    let silent = SAMPLE.replace("huleedu.ras.batch.results.ready.v1", "huleedu.nobody.cares.v1");
    let (silent_envelope, silent_event) = read(&silent)?;
    let (mut nothing, _) = self::fresh(&rule, &configuration, &silent_envelope, &silent_event);

    let [fresh_p50, reused_p50, native_p50, nothing_p50] =
        [&mut fresh, &mut reused, &mut native, &mut nothing].map(|samples| percentile(samples, 50));
    figures.add(
        "project, fresh instance, p50",
        micros(fresh_p50),
        format!("p99 {}", micros(percentile(&mut fresh, 99))),
        "≤ 30 µs",
    );
    let [instantiate, call, drop] = split(timings);
    let parts = format!("instantiate {} · call {} · drop {}", micros(instantiate), micros(call), micros(drop));
    figures.add("  of which", parts, "", "");
    figures.add("  against a reused instance", micros(reused_p50), ratio(fresh_p50, reused_p50), "");
    figures.add("  against the same rule natively", micros(native_p50), ratio(fresh_p50, native_p50), "");
    figures.add("  a rule that returns nothing", micros(nothing_p50), ratio(fresh_p50, nothing_p50), "");
    Ok(())
}

fn ratio(ours: Duration, other: Duration) -> String {
    format!("fresh is {:.1} ×", ours.as_secs_f64() / other.as_secs_f64())
}

fn read(text: &str) -> Result<(Arc<Envelope>, Event)> {
    let envelope = Envelope::parse(text.as_bytes())?;
    let event = Event::from_envelope(&envelope)?;
    Ok((Arc::new(envelope), event))
}

fn samples<T>(mut once: impl FnMut() -> T) -> Vec<T> {
    for _ in 0..WARM_UP {
        once();
    }
    (0..CALLS).map(|_| once()).collect()
}

fn fresh(
    rule: &Projector,
    configuration: &Arc<Configuration>,
    envelope: &Arc<Envelope>,
    event: &Event,
) -> (Vec<Duration>, Vec<Timings>) {
    let once = || {
        let began = Instant::now();
        let projection = black_box(rule.project(configuration, envelope, event));
        (began.elapsed(), projection.timings)
    };
    samples(once).into_iter().unzip()
}

fn reused(
    rule: &Projector,
    configuration: &Arc<Configuration>,
    envelope: &Arc<Envelope>,
    event: &Event,
) -> Result<Vec<Duration>> {
    let mut warm = rule.warm(configuration, envelope).context("an instance")?;
    let once = || {
        let began = Instant::now();
        black_box(warm.project(envelope, event));
        began.elapsed()
    };
    Ok(samples(once))
}

/// Measures the same rule, compiled natively, with the same validation of its output.
fn native(envelope: &Envelope, event: &Event) -> Vec<Duration> {
    let Event::BatchResultsReadyV1(batch) = event else { unreachable!("the sample is of this type") };
    let categories = ["processing_results".to_owned()];
    let once = || {
        let began = Instant::now();
        let event = belfry_sdk::Event::BatchResultsReadyV1(belfry_sdk::BatchResultsReadyV1 {
            batch_id: batch.batch_id.clone(),
            user_id: batch.user_id.clone(),
            total_essays: batch.total_essays,
            completed_essays: batch.completed_essays,
            overall_status: batch.overall_status.clone(),
            processing_duration_seconds: batch.processing_duration_seconds,
            phase_results: batch.phase_results.iter().map(phase).collect(),
        });
        let context = belfry_sdk::Context {
            event_id: envelope.event_id.to_string(),
            event_type: envelope.event_type.clone(),
            occurred_at: envelope.occurred_at_ms,
            source_service: envelope.source_service.clone(),
            schema_version: envelope.schema_version,
            correlation_id: envelope.correlation_id.to_string(),
            subject: envelope.subject(None),
        };
        let answer = TeacherResults::project(event, context).unwrap_or_else(|_| belfry_sdk::Answer::none());
        let notifications = answer.notifications.into_iter().map(draft).collect();
        let answer = belfry_model::DraftAnswer { notifications, withdrawals: Vec::new() };
        let accepted = belfry_model::accept(answer, envelope.event_id, "teacher-results", &categories);
        drop(black_box(accepted));
        began.elapsed()
    };
    samples(once)
}

fn phase(phase: &belfry_model::PhaseResult) -> belfry_sdk::PhaseResult {
    belfry_sdk::PhaseResult {
        name: phase.name.clone(),
        status: phase.status.clone(),
        completed_count: phase.completed_count,
        failed_count: phase.failed_count,
        processing_time_seconds: phase.processing_time_seconds,
    }
}

fn draft(notification: belfry_sdk::Notification) -> belfry_model::Draft {
    belfry_model::Draft {
        recipient: notification.recipient,
        notification_type: notification.notification_type,
        category: notification.category,
        priority: belfry_model::Priority::High,
        payload: notification.payload,
        key: notification.key,
        action_required: notification.action_required,
        deadline_ms: notification.deadline,
        batch_id: notification.batch_id,
        class_id: notification.class_id,
        thread: notification.thread,
        not_before_ms: None,
        expires_at_ms: None,
        policies: Vec::new(),
    }
}

fn split(timings: Vec<Timings>) -> [Duration; 3] {
    let part = |part: fn(&Timings) -> Duration| percentile(&mut timings.iter().map(part).collect::<Vec<_>>(), 50);
    [part(|timings| timings.instantiate), part(|timings| timings.call), part(|timings| timings.drop)]
}
