use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmtime::ResourcesRequired;

/// Size of a WebAssembly memory page.
const PAGE_BYTES: u64 = 64 << 10;
/// Largest initial memory of a native guest: more than a compiled language starts with unless configured otherwise,
/// less than a language runtime does.
const NATIVE_INITIAL_BYTES: u64 = 2 << 20;
const NATIVE_MEMORIES: u32 = 2;

/// The class of a guest, determined at the upload from the resources that the component needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Compiled languages: Rust, C, Zig.
    Native,
    /// Languages that bundle a runtime: Python, JavaScript, Go.
    Dynamic,
}

impl Class {
    /// Returns the name of the class.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Dynamic => "dynamic",
        }
    }

    /// Returns the class of a component that needs these resources to start. Several memories, or a large one, indicate
    /// a language runtime. Unknown needs count as large.
    pub(crate) fn of(needed: Option<&ResourcesRequired>) -> Self {
        let small = needed.is_some_and(|needed| {
            let initial_bytes = needed.max_initial_memory_size.unwrap_or(0).saturating_mul(PAGE_BYTES);
            needed.num_memories <= NATIVE_MEMORIES && initial_bytes <= NATIVE_INITIAL_BYTES
        });
        if small { Self::Native } else { Self::Dynamic }
    }
}

/// Resource limits of a guest for one call.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Size of all memories together, in bytes.
    pub memory_bytes: usize,
    /// Size of all tables together, in elements.
    pub table_elements: usize,
    /// Time from instantiation to the answer.
    pub deadline: Duration,
}

impl Limits {
    /// Returns the default limits of a class.
    pub const fn of(class: Class) -> Self {
        match class {
            Class::Native => {
                Self { memory_bytes: 32 << 20, table_elements: 20_000, deadline: Duration::from_millis(50) }
            }
            // Measured: the largest runtimes have at most three tables of 8,000 elements.
            Class::Dynamic => {
                Self { memory_bytes: 256 << 20, table_elements: 60_000, deadline: Duration::from_millis(500) }
            }
        }
    }
}

/// Maximum number of parts of a component, whatever its class. Each instance of the pools has room for them.
pub(crate) mod parts {
    /// Core instances. A CPython component has 38, and one more for each native library bundled with it; each is at
    /// most a few pages in size.
    pub(crate) const CORE_INSTANCES: u32 = 256;
    /// Linear memories. QuickJS without WASI has three.
    pub(crate) const MEMORIES: u32 = 4;
    pub(crate) const TABLES: u32 = 8;
    /// Maximum host state of one core instance, in addition to its memories and tables, and of the component instance,
    /// in bytes.
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
        assert_eq!(class(1, Some(33)), Class::Dynamic, "one page more");
        assert_eq!(class(1, Some(50)), Class::Dynamic, "Go");
        assert_eq!(class(1, Some(512)), Class::Dynamic, "32 MiB");
        assert_eq!(class(3, Some(22)), Class::Dynamic, "QuickJS");
        assert_eq!(class(1, Some(u64::MAX)), Class::Dynamic);
        assert_eq!(Class::of(None), Class::Dynamic);
    }
}
