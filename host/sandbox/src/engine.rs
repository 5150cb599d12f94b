use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fail::fail_point;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::admission::{check_bytes, check_world};
use crate::class::parts;
use crate::compile_cache::{CompileCache, Compiled};
use crate::projector::{Compilation, Made};
use crate::slots::Slots;
use crate::{Class, Compiler, Digest, Limits, NotAdmitted, Projector, Reason, digest};

/// How often running guests are asked whether their time is up.
pub(crate) const EPOCH_TICK: Duration = Duration::from_millis(10);
/// Guests beside those of live events and of replays: one of shadows and samples, one of an event that is looked at again,
/// three of releases that are loaded or tried, and one to spare.
const OTHERS: usize = 6;

/// What an operator decides about guests.
#[derive(Clone, Debug)]
pub struct SandboxSettings {
    /// How many guests of live events may run at once; the pools have room for others beside them.
    pub concurrency: usize,
    /// Limits of compiled guests.
    pub native: Limits,
    /// Limits of guests that bring a runtime.
    pub dynamic: Limits,
    /// The categories that notifications may have.
    pub categories: Vec<String>,
    /// Where compiled components are kept between runs; nowhere if none.
    pub cache_directory: Option<PathBuf>,
    /// Where components are compiled.
    pub compiler: Compiler,
}

impl SandboxSettings {
    /// The limits of a class.
    pub fn limits(&self, class: Class) -> &Limits {
        match class {
            Class::Native => &self.native,
            Class::Dynamic => &self.dynamic,
        }
    }

    /// How many guests may run at once that no live event waits for.
    fn beside(&self) -> usize {
        self.concurrency.div_ceil(2) + OTHERS
    }
}

/// Why the sandbox cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The engine refuses its settings or this machine.
    #[error("the WebAssembly engine cannot start: {0:#}")]
    Engine(wasmtime::Error),
    /// The cache directory cannot be used.
    #[error("cannot use {0} for compiled components: {1}; make it writable or choose another data directory")]
    Cache(PathBuf, std::io::Error),
}

/// Loads components. Cheap to clone; all clones share engines and pools.
#[derive(Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
}

struct Shared {
    native: Engine,
    dynamic: Engine,
    settings: SandboxSettings,
    cache: Option<CompileCache>,
    slots: Arc<Slots>,
}

impl Sandbox {
    /// Start the engines and their clock.
    pub fn new(settings: SandboxSettings) -> Result<Self, SandboxError> {
        let cache = match &settings.cache_directory {
            Some(directory) => {
                Some(CompileCache::open(directory).map_err(|error| SandboxError::Cache(directory.clone(), error))?)
            }
            None => None,
        };
        let native = engine(Class::Native, &settings)?;
        let dynamic = engine(Class::Dynamic, &settings)?;
        start_clock([&native, &dynamic]);
        let slots = Slots::new(settings.beside());
        Ok(Self { shared: Arc::new(Shared { native, dynamic, settings, cache, slots }) })
    }

    /// Load a component: check it, compile it or take it from the cache, choose its class, and ask what it is.
    ///
    /// Takes up to seconds for a large component that is not cached: call it on a thread that may block, and on few at once.
    pub fn load(&self, bytes: &[u8]) -> Result<Projector, NotAdmitted> {
        fail_point!("component.load");
        check_bytes(bytes)?;
        let digest = digest(bytes);
        let compiled = self.compiled(&digest, bytes)?;
        // What does not even fit the smaller pool is no native guest.
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
        Projector::new(self, digest, class, &component, Made { compilation, imports })
    }

    pub(crate) fn engine(&self, class: Class) -> &Engine {
        match class {
            Class::Native => &self.shared.native,
            Class::Dynamic => &self.shared.dynamic,
        }
    }

    pub(crate) fn settings(&self) -> &SandboxSettings {
        &self.shared.settings
    }

    pub(crate) fn slots(&self) -> Arc<Slots> {
        self.shared.slots.clone()
    }

    /// What the engine makes of a component, from the cache if it is there. Both engines have the same settings but for
    /// their pools, so it fits either.
    fn compiled(&self, digest: &Digest, bytes: &[u8]) -> Result<Compiled, NotAdmitted> {
        let engine = self.engine(Class::Native);
        if let Some(compiled) = self.shared.cache.as_ref().and_then(|cache| cache.load(engine, digest)) {
            return Ok(compiled);
        }
        let began = Instant::now();
        let code = self.shared.settings.compiler.compile(engine, bytes)?;
        let compiled = Compiled { code, time: began.elapsed() };
        if let Some(cache) = &self.shared.cache {
            cache.keep(engine, digest, &compiled);
        }
        Ok(compiled)
    }
}

/// It was compiled, and no pool takes it: it has more parts, or starts with more, than any rule may have. The engine says
/// which limit it is.
fn too_much(error: &wasmtime::Error, limits: &Limits) -> NotAdmitted {
    let detail = format!(
        "needs more than a rule may have: {error:#}; a rule may have {} core instances, {} memories and {} tables, and start \
         with {} MiB of memory and {} table elements: leave out libraries that it does not need, or let it start with less",
        parts::CORE_INSTANCES,
        parts::MEMORIES,
        parts::TABLES,
        limits.memory_bytes >> 20,
        limits.table_elements,
    );
    NotAdmitted::new(Reason::OverLimit, detail)
}

fn engine(class: Class, settings: &SandboxSettings) -> Result<Engine, SandboxError> {
    let mut config = config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(class, settings)));
    Engine::new(&config).or_else(|error| {
        tracing::warn!(
            class = class.as_str(),
            error = format!("{error:#}"),
            "no address space for a pool of instances; guests start more slowly"
        );
        config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
        Engine::new(&config).map_err(SandboxError::Engine)
    })
}

/// What a compiled component depends on.
pub(crate) fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .concurrency_support(false)
        .max_wasm_stack(512 << 10)
        .wasm_memory64(false)
        .memory_init_cow(true);
    config
}

fn pool(class: Class, settings: &SandboxSettings) -> PoolingAllocationConfig {
    let instances = (settings.concurrency + settings.beside()) as u32;
    let limits = settings.limits(class);
    let keep_resident = match class {
        Class::Native => 256 << 10,
        Class::Dynamic => 16 << 20,
    };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances * parts::CORE_INSTANCES)
        .total_memories(instances * parts::MEMORIES)
        .total_tables(instances * parts::TABLES)
        .max_core_instances_per_component(parts::CORE_INSTANCES)
        .max_memories_per_component(parts::MEMORIES)
        .max_memories_per_module(parts::MEMORIES)
        .max_tables_per_component(parts::TABLES)
        .max_tables_per_module(parts::TABLES)
        .max_component_instance_size(parts::STATE_BYTES)
        .max_core_instance_size(parts::STATE_BYTES)
        .max_memory_size(limits.memory_bytes)
        .table_elements(limits.table_elements)
        .linear_memory_keep_resident(keep_resident)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// Advance the engines' epochs until the last of them is gone. A late tick is one tick: a machine that stood still must
/// not make guests look slow.
fn start_clock(engines: [&Engine; 2]) {
    let engines = engines.map(Engine::weak);
    let clock = move || {
        loop {
            std::thread::sleep(EPOCH_TICK);
            let alive: Vec<_> = engines.iter().filter_map(|engine| engine.upgrade()).collect();
            if alive.is_empty() {
                return;
            }
            alive.iter().for_each(Engine::increment_epoch);
        }
    };
    std::thread::Builder::new().name("guest-clock".into()).spawn(clock).expect("the system has threads to give");
}
