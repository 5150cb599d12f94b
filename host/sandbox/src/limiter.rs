use belfry_model::Outcome;
use wasmtime::ResourceLimiter;

use crate::Limits;

/// Limits the sum of a guest's memories and the sum of its tables, and records which limit was exceeded: a guest whose
/// allocation fails only reports `unreachable`.
pub(crate) struct Limiter {
    limits: Limits,
    memory_left: usize,
    table_elements_left: usize,
    refused: Option<Outcome>,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            limits: *limits,
            memory_left: limits.memory_bytes,
            table_elements_left: limits.table_elements,
            refused: None,
        }
    }

    /// Returns the limit that the guest exceeded, if any, with its value.
    pub(crate) fn refused(&self) -> Option<(Outcome, String)> {
        let outcome = self.refused?;
        let limit = match outcome {
            Outcome::TableLimit => format!("{} table elements", self.limits.table_elements),
            _ => format!("{} MiB of memory", self.limits.memory_bytes >> 20),
        };
        Some((outcome, limit))
    }

    /// Returns the guest's memory in bytes. It never shrinks.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.limits.memory_bytes - self.memory_left
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        if maximum.is_some_and(|maximum| desired > maximum) || more > self.memory_left {
            self.refused = Some(Outcome::MemoryLimit);
            return Ok(false);
        }
        self.memory_left -= more;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        if maximum.is_some_and(|maximum| desired > maximum) || more > self.table_elements_left {
            self.refused = Some(Outcome::TableLimit);
            return Ok(false);
        }
        self.table_elements_left -= more;
        Ok(true)
    }
}
