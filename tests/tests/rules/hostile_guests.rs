//! Hostile guests: each is contained, and has its own outcome.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use belfry_artifacts::programs;
use belfry_model::{Envelope, Event, Outcome};
use belfry_sandbox::{
    Answer, Caller, Class, Compiler, Configuration, Limits, Projection, Projector, Reason, Sandbox, SandboxSettings,
};
use belfry_tests::{Batch, Neighbour, results_ready};
use serde_json::{Value, json};

fn sandbox() -> &'static Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    SANDBOX.get_or_init(|| {
        Sandbox::new(SandboxSettings {
            concurrency: 4,
            native: Limits::of(Class::Native),
            dynamic: Limits::of(Class::Dynamic),
            categories: vec!["processing_results".into()],
            cache_directory: None,
            compiler: Compiler::Here,
        })
        .expect("valid sandbox settings")
    })
}

/// A loaded rule with its configuration.
#[derive(Clone)]
struct Rule {
    projector: Projector,
    configuration: Arc<Configuration>,
}

fn rule(component: &[u8], config: &Value) -> Rule {
    let projector = sandbox().load(component).expect("valid component");
    let configuration =
        projector.configure(&config.to_string().parse().expect("JSON object")).expect("valid configuration");
    Rule { projector, configuration: Arc::new(configuration) }
}

fn hostile(behaviour: &str) -> Rule {
    static HOSTILE: OnceLock<Projector> = OnceLock::new();
    let projector = HOSTILE.get_or_init(|| rule(programs::HOSTILE, &json!({})).projector).clone();
    let config = json!({ "behaviour": behaviour });
    let configuration =
        projector.configure(&config.to_string().parse().expect("JSON object")).expect("known behaviour");
    Rule { projector, configuration: Arc::new(configuration) }
}

fn project(rule: &Rule, number: u64) -> Projection {
    let text = results_ready(&Batch::number(number)).to_string();
    project_text(rule, &text)
}

fn project_text(rule: &Rule, text: &str) -> Projection {
    let envelope = Arc::new(Envelope::parse(text.as_bytes()).expect("valid envelope"));
    let event = Event::from_envelope(&envelope).expect("valid event");
    rule.projector.project(&rule.configuration, &envelope, &event)
}

fn detail(projection: &Projection) -> String {
    match &projection.answer {
        Answer::Failed(failure) => failure.detail.clone(),
        Answer::Rejected(rejection) => rejection.code.clone(),
        Answer::Notifications(notifications) => format!("{} notifications", notifications.len()),
    }
}

/// The outcome of each behaviour of `tests/programs/hostile`, and a word in its explanation.
const OUTCOMES: &[(&str, Outcome, &str)] = &[
    ("quiet", Outcome::Notifications, "0 notifications"),
    ("notify", Outcome::Notifications, "1 notifications"),
    ("many", Outcome::Notifications, "400 notifications"),
    ("reject", Outcome::Rejected, "no-thanks"),
    // Time
    ("endless-loop", Outcome::TimedOut, "within"),
    ("sleep", Outcome::Notifications, "1 notifications"),
    ("oversleep", Outcome::Notifications, "1 notifications"),
    // Memory
    ("memory-hog", Outcome::MemoryLimit, "refused"),
    ("huge-memory-result", Outcome::MemoryLimit, "refused"),
    ("stack-overflow", Outcome::Trapped, "recurse less deeply"),
    ("trap", Outcome::Trapped, "panic"),
    ("trap-on-even", Outcome::Notifications, "1 notifications"),
    ("exit", Outcome::Trapped, "exit"),
    // Output
    ("huge-result", Outcome::OutputLimit, "8 MiB"),
    ("million-notifications", Outcome::OutputLimit, "8 MiB"),
    ("large-payload", Outcome::OutputLimit, "65536"),
    ("invalid-payload", Outcome::InvalidOutput, "not valid JSON"),
    ("array-payload", Outcome::InvalidOutput, "JSON object"),
    ("deep-payload", Outcome::InvalidOutput, "32 levels"),
    ("pretty-payload", Outcome::Notifications, "1 notifications"),
    ("same-identity", Outcome::InvalidOutput, "different keys"),
    ("nul-recipient", Outcome::InvalidOutput, "U+0000"),
    ("empty-recipient", Outcome::Notifications, "1 notifications"),
    ("unknown-category", Outcome::InvalidOutput, "category"),
    ("log-flood", Outcome::LogLimit, "64"),
    ("stdout-flood", Outcome::LogLimit, "64"),
    ("long-log-line", Outcome::Notifications, "notifications"),
    ("print", Outcome::Notifications, "1 notifications"),
    // Environment
    ("clocks-and-randomness", Outcome::Notifications, "1 notifications"),
    ("leaky-state", Outcome::Notifications, "1 notifications"),
    ("missing-wasi", Outcome::Trapped, "wasi:io/streams"),
    // In the contract, but not implemented
    ("not-before", Outcome::UnsupportedFeature, "not-before"),
    ("withdraw", Outcome::UnsupportedFeature, "withdrawals"),
    ("long-thread", Outcome::InvalidOutput, "thread: must have 1 to 256 bytes"),
    ("policies", Outcome::UnsupportedFeature, "policies"),
    ("expired", Outcome::Notifications, "1 notifications"),
    ("expires-later", Outcome::Notifications, "1 notifications"),
    ("threaded", Outcome::Notifications, "1 notifications"),
];

#[test]
fn every_behaviour_has_its_outcome() {
    let mut wrong = Vec::new();
    for (behaviour, outcome, word) in OUTCOMES {
        let began = Instant::now();
        let projection = project(&hostile(behaviour), 1);
        let detail = detail(&projection);
        if projection.outcome() != *outcome || !detail.contains(word) {
            wrong.push(format!("{behaviour}: {} ({detail}), expected {outcome} with {word:?}", projection.outcome()));
        }
        // The time is limited too: at most three attempts, each twice as long as the one before.
        assert!(began.elapsed() < Duration::from_secs(5), "{behaviour} took {:?}", began.elapsed());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn programs_with_limits_of_their_own_meet_them() {
    let text = json!({
        "event_id": "7d6fbb0e-6ad8-4f6b-9a0e-5a9b0d3f2c11", "event_type": "test.hostile.v1",
        "event_timestamp": "2026-03-02T09:15:01Z", "source_service": "test", "data": {}
    });
    for (component, outcome) in
        [(programs::TABLE_HOG, Outcome::TableLimit), (programs::MANY_MEMORIES, Outcome::MemoryLimit)]
    {
        let projection = project_text(&rule(component, &json!({})), &text.to_string());
        assert_eq!(projection.outcome(), outcome, "{}", detail(&projection));
    }
}

#[test]
fn what_is_no_rule_is_refused_with_the_culprit_and_the_remedy() {
    let too_large = vec![0; (64 << 20) + 1];
    let cases: [(&[u8], Reason, &[&str]); 8] = [
        (programs::START_LOOP, Reason::BadDescription, &["while starting", "within"]),
        (programs::FORBIDDEN_IMPORT, Reason::ForbiddenImport, &["wasi:sockets/tcp@0.2.0", "no network"]),
        (programs::OTHER_CONTRACT, Reason::ContractMismatch, &["projector@2.0.0", "projector@1.0.0"]),
        (
            programs::OLDER_CONTRACT,
            Reason::ContractMismatch,
            &[
                "`project` returns result<list<notification>, rejection>",
                "this host's contract has result<answer, rejection>",
                "rebuild it with the SDK of this host",
            ],
        ),
        (programs::CORE_MODULE, Reason::NotAComponent, &["core WebAssembly module", "wasm32-wasip2"]),
        (b"hello", Reason::NotAComponent, &["wasm32-wasip2"]),
        (b"\x7fELF....", Reason::NotAComponent, &["machine code", "precompiled"]),
        (&too_large, Reason::OverLimit, &["67108865 bytes", "at most 67108864"]),
    ];
    for (bytes, reason, words) in cases {
        let refused = sandbox().load(bytes).map(|_| ()).expect_err("the component is rejected");
        assert_eq!(refused.reason, reason, "{refused}");
        for word in words {
            assert!(refused.to_string().contains(word), "{word:?} is missing: {refused}");
        }
    }
}

/// Returns a rule with another core module in it, instantiated several times. Toolchains bundle runtimes and libraries
/// this way.
fn with_modules(rule: &[u8], module: &[u8], instances: u32) -> Vec<u8> {
    const CORE_MODULE: u8 = 1;
    const CORE_INSTANCES: u8 = 2;
    let leb128 = |mut number: u32| {
        let mut bytes = Vec::new();
        loop {
            let low = (number & 0x7f) as u8;
            number >>= 7;
            bytes.push(if number == 0 { low } else { low | 0x80 });
            if number == 0 {
                return bytes;
            }
        }
    };
    // The index of the new module is the number of modules before it.
    let (mut modules, mut at) = (0, 8);
    while at < rule.len() {
        modules += u32::from(rule[at] == CORE_MODULE);
        let (mut size, mut shift) = (0, 0);
        loop {
            at += 1;
            size |= usize::from(rule[at] & 0x7f) << shift;
            shift += 7;
            if rule[at] & 0x80 == 0 {
                break;
            }
        }
        at += 1 + size;
    }
    let mut content = leb128(instances);
    for _ in 0..instances {
        // Instantiate the module without arguments.
        content.push(0);
        content.extend(leb128(modules));
        content.push(0);
    }
    let section = |kind: u8, content: &[u8]| [&[kind][..], &leb128(content.len() as u32), content].concat();
    [rule, &section(CORE_MODULE, module), &section(CORE_INSTANCES, &content)].concat()
}

/// Returns a core module with nothing but a memory of this many pages, encoded as LEB128 in two bytes.
fn memory(pages: u16) -> Vec<u8> {
    let [low, high] = [(pages & 0x7f) as u8 | 0x80, (pages >> 7) as u8];
    [NOTHING, &[5, 4, 1, 0, low, high]].concat()
}

const NOTHING: &[u8] = b"\0asm\x01\0\0\0";

#[test]
fn there_is_room_for_what_toolchains_make() {
    for (name, component, class) in [
        ("40 core instances, as CPython has", with_modules(programs::TABLE_HOG, NOTHING, 40), Class::Native),
        ("a memory that starts with 2 MiB", with_modules(programs::TABLE_HOG, &memory(32), 1), Class::Native),
        ("a memory that starts with more", with_modules(programs::TABLE_HOG, &memory(33), 1), Class::Dynamic),
        ("a memory that starts with 32 MiB", with_modules(programs::TABLE_HOG, &memory(512), 1), Class::Dynamic),
        ("four memories", with_modules(programs::TABLE_HOG, &memory(1), 3), Class::Dynamic),
    ] {
        let projector = sandbox().load(&component).unwrap_or_else(|refused| panic!("{name}: {refused}"));
        assert_eq!(projector.class(), class, "{name}");
        assert_eq!(projector.limits().deadline, Limits::of(class).deadline, "{name}");
    }
}

#[test]
fn a_limit_is_called_one_and_has_its_number() {
    let cases: [(Vec<u8>, &[&str]); 4] = [
        (with_modules(programs::TABLE_HOG, NOTHING, 300), &["core module instances", "maximum of 256"]),
        (with_modules(programs::TABLE_HOG, &memory(1), 5), &["6 Wasm linear memories", "maximum of 4"]),
        (with_modules(programs::TABLE_HOG, &memory(5000), 1), &["327680000", "start with 256 MiB"]),
        // Each memory is within the limit, but all of them together exceed it.
        (with_modules(programs::TABLE_HOG, &memory(2000), 3), &["memory-limit", "more than 256 MiB of memory"]),
    ];
    for (component, words) in cases {
        let refused = sandbox().load(&component).map(|_| ()).expect_err("the component is rejected");
        assert_eq!(refused.reason, Reason::OverLimit, "{refused}");
        for word in words {
            assert!(refused.to_string().contains(word), "{word:?} is missing: {refused}");
        }
    }
}

/// Replays, shadows and uploads, however many, share the instances that live events leave free.
#[test]
fn live_events_have_their_instances_whatever_runs_beside_them() {
    let (busy, live) = (hostile("endless-loop"), hostile("notify"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let running = || !stop.load(std::sync::atomic::Ordering::Relaxed);
    let text = results_ready(&Batch::number(7)).to_string();
    let envelope = Arc::new(Envelope::parse(text.as_bytes()).expect("valid envelope"));
    let event = Event::from_envelope(&envelope).expect("valid event");
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                while running() {
                    busy.projector.project_for(Caller::Beside, &busy.configuration, &envelope, &event);
                }
            });
        }
        std::thread::sleep(Duration::from_millis(300));
        let without_room = (0..40).map(|number| project(&live, number)).find(|made| detail(made).contains("no room"));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(without_room.is_none(), "{without_room:?}");
    });
}

#[test]
fn nothing_is_remembered_from_one_event_to_the_next() {
    let leaky = hostile("leaky-state");
    for number in 0..3 {
        let Answer::Notifications(notifications) = project(&leaky, number).answer else { panic!("no notifications") };
        assert_eq!(notifications[0].payload, r#"{"count":1}"#);
    }
}

#[test]
fn clocks_show_the_events_time_and_randomness_its_id() {
    let curious = hostile("clocks-and-randomness");
    let payload = |number| match project(&curious, number).answer {
        Answer::Notifications(notifications) => serde_json::from_str::<Value>(&notifications[0].payload).expect("JSON"),
        other => panic!("no notifications: {other:?}"),
    };
    let first = payload(1);
    assert_eq!(first, payload(1), "the same event leads to the same answer");
    assert_eq!(first["now_ms"], 1_772_442_901_000_i64, "2026-03-02T09:15:01Z");
    assert!(first["elapsed_ns"].as_i64() > Some(0), "a clock that does not advance makes runtimes spin");
    assert_ne!(first["random"], payload(2)["random"], "another event has other random numbers");
}

#[test]
fn payloads_lose_their_spacing_and_nothing_else() {
    let Answer::Notifications(notifications) = project(&hostile("pretty-payload"), 1).answer else {
        panic!("no notifications")
    };
    let payload = &notifications[0].payload;
    assert!(!payload.contains(['\n', '\r', '\t']), "{payload}");
    serde_json::from_str::<Value>(payload).expect("JSON");
}

#[test]
fn what_a_rule_prints_comes_to_its_log() {
    let projection = project(&hostile("print"), 1);
    assert_eq!(projection.log.len(), 2, "{:?}", projection.log);
    let long = project(&hostile("long-log-line"), 1);
    assert_eq!(long.log[0].message.len(), 4096);
}

/// While one rule misbehaves at every event, another rule continues. `make bench` measures the effect on it. Without the
/// safeguard, a call would wait for the deadline of the other rule: at least 50 ms.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_neighbour_goes_on() {
    for behaviour in ["endless-loop", "memory-hog", "huge-result", "log-flood", "trap"] {
        let mut p99s = Vec::new();
        for _ in 0..5 {
            p99s.push(Neighbour::new(sandbox(), behaviour).p99_disturbed().await);
            if p99s.last() < Some(&Duration::from_millis(20)) {
                break;
            }
        }
        assert!(p99s.iter().min() < Some(&Duration::from_millis(20)), "{behaviour}: {p99s:?}");
    }
}
