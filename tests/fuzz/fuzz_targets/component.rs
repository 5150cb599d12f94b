//! Arbitrary bytes as an uploaded component, up to the first event that it projects.
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use belfry_model::{Envelope, Event, JsonObject};
use belfry_sandbox::{Compiler, Description, Limits, Projector, Sandbox, SandboxSettings, digest};
use cpu_time::ProcessTime;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Barely above the needs of sound components, so that harmful ones end soon.
const LIMITS: Limits = Limits { memory_bytes: 8 << 20, table_elements: 2_000, deadline: Duration::from_millis(20) };

static SANDBOX: LazyLock<Sandbox> = LazyLock::new(|| {
    Sandbox::new(SandboxSettings {
        concurrency: 1,
        native: LIMITS,
        dynamic: LIMITS,
        categories: vec!["processing_results".to_owned()],
        cache_directory: None,
        compiler: Compiler::Here,
    })
    .expect("this machine runs the engine")
});

/// Limit of processor time for one input. Not wall-clock time, so that a busy machine is not a finding; the largest
/// seeds take less than two seconds under the fuzzer's instrumentation.
const PATIENCE: Duration = Duration::from_secs(20);

/// Size from which components take half a second to compile, so that few inputs should begin with them.
const LARGE_BYTES: usize = 16 << 10;

/// Valid components, small ones first.
static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/seeds");
    let entries = fs::read_dir(directory).expect("run.sh has put the seeds there");
    let paths = entries.map(|entry| entry.expect("a readable directory").path());
    let mut seeds: Vec<_> = paths.map(|path| fs::read(path).expect("a readable seed")).collect();
    // The directory's order must not matter: an input must mean the same on another machine.
    seeds.sort_by(|one, other| one.len().cmp(&other.len()).then_with(|| one.cmp(other)));
    seeds
});

static ENVELOPE: LazyLock<Arc<Envelope>> = LazyLock::new(|| {
    let sample = include_bytes!("../../../host/model/tests/samples/batch_results_ready.success.json");
    Arc::new(Envelope::parse(sample).expect("the sample is an envelope"))
});

fuzz_target!(|input: &[u8]| {
    let component = component(input);
    let began = ProcessTime::now();
    match SANDBOX.load(&component) {
        Ok(projector) => {
            assert_eq!(projector.digest(), digest(&component));
            check_description(projector.description());
            run(&projector);
        }
        Err(refused) => assert!(!refused.detail.is_empty(), "no reason given: {refused:?}"),
    }
    let took = began.elapsed();
    assert!(took < PATIENCE, "took {took:?} of processor time");
});

/// Every WebAssembly binary begins with a zero byte: such input is the component itself. Other input picks a seed
/// by its first byte and changes single bytes of it, with four bytes of input for each change: the offset (three) and
/// the new value. Most lengths and indices stay valid, so the code that runs after the preamble is covered too.
fn component(input: &[u8]) -> Vec<u8> {
    match input {
        [] | [0, ..] => input.to_vec(),
        [number, edits @ ..] => {
            let mut component = seed(*number).to_vec();
            for edit in edits.chunks_exact(4) {
                let place = u32::from_le_bytes([edit[0], edit[1], edit[2], 0]) as usize % component.len();
                component[place] = edit[3];
            }
            component
        }
    }
}

fn seed(number: u8) -> &'static [u8] {
    let (small, large) = SEEDS.split_at(SEEDS.partition_point(|seed| seed.len() < LARGE_BYTES));
    let seeds = if number < 0xf8 { small } else { large };
    &seeds[usize::from(number) % seeds.len()]
}

/// Checks the rules that the contract states, implemented here a second time.
fn check_description(description: &Description) {
    let Description { name, version, summary, subscriptions, config, requires } = description;
    let of_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    assert!(name.as_bytes().first().is_some_and(u8::is_ascii_lowercase), "{name:?}");
    assert!(name.len() <= 63 && name.bytes().all(of_name), "{name:?}");
    assert!(!version.is_empty() && !version.contains(['@', '#', ' ', '\n', '\0']), "{version:?}");
    assert!(!summary.is_empty() && !summary.contains(['\n', '\0']), "{summary:?}");
    assert!(!subscriptions.is_empty(), "a rule that never runs");
    for subscription in subscriptions {
        assert!(!subscription.event_type.is_empty() && !subscription.event_type.contains('\0'), "{subscription:?}");
    }
    for default in config.iter().filter_map(|key| key.default.as_deref()) {
        serde_json::from_str::<Value>(default).expect("defaults are JSON");
    }
    assert!(requires.is_empty(), "{requires:?}");
}

/// Runs an admitted component, which must be harmless. Any result is fine.
fn run(projector: &Projector) {
    let Ok(configuration) = projector.configure(&JsonObject::default()) else { return };
    let event = Event::from_envelope(&ENVELOPE).expect("the sample is an event");
    projector.project(&Arc::new(configuration), &ENVELOPE, &event);
}
