use std::time::Duration;

use serde::{Deserialize, Serialize};

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
