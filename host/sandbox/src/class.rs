use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmtime::ResourcesRequired;

/// WebAssembly counts memory in pages.
const PAGE_BYTES: u64 = 64 << 10;
/// More than a compiled language starts with, unless it is asked to; less than a runtime does.
const NATIVE_INITIAL_BYTES: u64 = 2 << 20;
const NATIVE_MEMORIES: u32 = 2;

/// What kind of guest a component is, judged at upload by what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Compiled languages: Rust, C, Zig.
    Native,
    /// Languages that bring a runtime with them: Python, JavaScript, Go.
    Dynamic,
}

impl Class {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Dynamic => "dynamic",
        }
    }

    /// The class of a component that needs this to start. A language runtime shows in it: several memories, or a large one.
    /// What is not known beforehand counts as large.
    pub(crate) fn of(needed: Option<&ResourcesRequired>) -> Self {
        let small = needed.is_some_and(|needed| {
            let initial_bytes = needed.max_initial_memory_size.unwrap_or(0).saturating_mul(PAGE_BYTES);
            needed.num_memories <= NATIVE_MEMORIES && initial_bytes <= NATIVE_INITIAL_BYTES
        });
        if small { Self::Native } else { Self::Dynamic }
    }
}

/// What a guest may use up in one call.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// All memories together, in bytes.
    pub memory_bytes: usize,
    /// All tables together, in elements.
    pub table_elements: usize,
    /// From instantiation to answer.
    pub deadline: Duration,
}

impl Limits {
    /// The limits that a class has unless they are configured.
    pub const fn of(class: Class) -> Self {
        match class {
            Class::Native => {
                Self { memory_bytes: 32 << 20, table_elements: 20_000, deadline: Duration::from_millis(50) }
            }
            // Measured: the largest runtimes have tables of 8,000 elements, three of them at most.
            Class::Dynamic => {
                Self { memory_bytes: 256 << 20, table_elements: 60_000, deadline: Duration::from_millis(500) }
            }
        }
    }
}

/// How many parts a component may have, whatever its class: an instance of the pools has room for these.
pub(crate) mod parts {
    /// Core instances. A component of CPython has 38, and one more for each native library that comes with it; each is a
    /// few pages at most.
    pub(crate) const CORE_INSTANCES: u32 = 256;
    /// Linear memories. QuickJS without WASI has three.
    pub(crate) const MEMORIES: u32 = 4;
    pub(crate) const TABLES: u32 = 8;
    /// What the host keeps of one core instance beside its memories and tables, and of the component itself, in bytes.
    pub(crate) const STATE_BYTES: usize = 1 << 20;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_shows_in_what_it_starts_with() {
        let class = |memories, pages| {
            Class::of(Some(&ResourcesRequired {
                num_memories: memories,
                max_initial_memory_size: pages,
                num_tables: 1,
                max_initial_table_size: None,
            }))
        };
        assert_eq!(class(0, None), Class::Native, "no memory at all");
        assert_eq!(class(1, Some(17)), Class::Native, "Rust");
        assert_eq!(class(1, Some(32)), Class::Native, "2 MiB");
        assert_eq!(class(1, Some(33)), Class::Dynamic, "a page more");
        assert_eq!(class(1, Some(50)), Class::Dynamic, "Go");
        assert_eq!(class(1, Some(512)), Class::Dynamic, "32 MiB");
        assert_eq!(class(3, Some(22)), Class::Dynamic, "QuickJS");
        assert_eq!(class(1, Some(u64::MAX)), Class::Dynamic);
        assert_eq!(Class::of(None), Class::Dynamic);
    }
}
