use std::panic::PanicHookInfo;
use std::sync::Once;

use crate::task;

/// Count and log each panic of this process from now on, in whatever task or thread: where it happened, and not what it
/// says, for that may quote an event.
pub(super) fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(note)));
}

fn note(panic: &PanicHookInfo<'_>) {
    let task = task();
    metrics::counter!("belfry_task_panics_total", "task" => task.clone()).increment(1);
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(task, place, "a part of belfry panicked, which is a fault of belfry's; report it, with this line");
}

/// The task, else the thread; threads of one kind are one.
fn task() -> String {
    if let Some(name) = task::current() {
        return name.to_owned();
    }
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("unnamed");
    name.trim_end_matches(|last: char| last.is_ascii_digit() || last == '-').to_owned()
}
