use std::panic::PanicHookInfo;
use std::sync::Once;

use crate::task;

/// Installs a hook that counts and logs each panic of this process, in any task or thread. It logs the location but not the
/// message, which may quote an event.
pub(super) fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(note)));
}

fn note(panic: &PanicHookInfo<'_>) {
    let task = task();
    metrics::counter!("belfry_task_panics_total", "task" => task.clone()).increment(1);
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(task, place, "a task of belfry panicked; please report this bug with this line");
}

/// Returns the name of the current task, or else of the thread without its number, so that threads of one kind are counted
/// together.
fn task() -> String {
    if let Some(name) = task::current() {
        return name.to_owned();
    }
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("unnamed");
    name.trim_end_matches(|last: char| last.is_ascii_digit() || last == '-').to_owned()
}
