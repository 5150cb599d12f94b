use std::time::Instant;

use crate::admission::{check_bytes, check_world};
use crate::compile_cache::Compiled;
use crate::projector::{Compilation, LoadInfo};
use crate::resource_class::parts;
use crate::{Class, Digest, Limits, NotAdmitted, Projector, Reason, Sandbox, digest};

impl Sandbox {
    /// Loads a component: checks it, compiles it or takes it from the cache, determines its class, and calls
    /// `describe`.
    ///
    /// This takes up to several seconds for a large component that is not cached. Call it on a thread that may block,
    /// and for few components at once.
    pub fn load(&self, bytes: &[u8]) -> Result<Projector, NotAdmitted> {
        #[cfg(feature = "failpoints")]
        fail::fail_point!("component.load");
        check_bytes(bytes)?;
        let digest = digest(bytes);
        let compiled = self.compiled(&digest, bytes)?;
        // A component that does not fit the smaller pool is not a native guest.
        let (class, component) = match compiled.component(self.engine(Class::Native)) {
            Ok(component) if Class::of(component.resources_required().as_ref()) == Class::Native => {
                (Class::Native, component)
            }
            _ => {
                let component = compiled.component(self.engine(Class::Dynamic));
                let limits = self.settings().limits(Class::Dynamic);
                (Class::Dynamic, component.map_err(|error| too_much(&error, limits))?)
            }
        };
        let compilation =
            Compilation { component_bytes: bytes.len(), compiled_bytes: compiled.code.len(), time: compiled.time };
        let imports = check_world(&component, self.engine(class))?;
        Projector::new(self, digest, class, (bytes, &component), LoadInfo { compilation, imports })
    }

    /// Returns the compiled component, from the cache if it is there. The settings of the two engines differ only in
    /// their pools, so it fits either.
    fn compiled(&self, digest: &Digest, bytes: &[u8]) -> Result<Compiled, NotAdmitted> {
        let engine = self.engine(Class::Native);
        if let Some(compiled) = self.cache().and_then(|cache| cache.load(engine, digest)) {
            return Ok(compiled);
        }
        let began = Instant::now();
        let code = self.settings().compiler.compile(engine, bytes)?;
        let compiled = Compiled { code, time: began.elapsed() };
        if let Some(cache) = self.cache() {
            cache.keep(engine, digest, &compiled);
        }
        Ok(compiled)
    }
}

/// Returns the error for a component that compiled but fits no pool: it has more parts, or starts with more, than any
/// rule may have. The engine's error names the limit.
fn too_much(error: &wasmtime::Error, limits: &Limits) -> NotAdmitted {
    let detail = format!(
        "exceeds the limits of a rule: {error:#}; a rule may have {} core instances, {} memories and {} tables, and start \
         with {} MiB of memory and {} table elements: remove libraries that it does not need, or make it start with less",
        parts::CORE_INSTANCES,
        parts::MEMORIES,
        parts::TABLES,
        limits.memory_bytes >> 20,
        limits.table_elements,
    );
    NotAdmitted::new(Reason::OverLimit, detail)
}
