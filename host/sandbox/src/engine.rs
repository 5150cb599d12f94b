use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wasmtime::component::Component;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::admission::{check_bytes, check_world};
use crate::compile_cache::{CompileCache, Compiled};
use crate::projector::{Compilation, Made};
use crate::{Class, Compiler, Digest, Limits, NotAdmitted, Projector, Reason, digest};

/// How often running guests are asked whether their time is up.
pub(crate) const EPOCH_TICK: Duration = Duration::from_millis(10);

/// What an operator decides about guests.
#[derive(Clone, Debug)]
pub struct SandboxSettings {
    /// How many guests may run at once.
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
    /// One component is compiled at a time, and none twice.
    compiling: Mutex<()>,
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
        let compiling = Mutex::default();
        Ok(Self { shared: Arc::new(Shared { native, dynamic, settings, cache, compiling }) })
    }

    /// Load a component: check it, compile it or take it from the cache, choose its class, and ask what it is.
    ///
    /// Takes up to seconds for a large component that is not cached: call it on a thread that may block.
    pub fn load(&self, bytes: &[u8]) -> Result<Projector, NotAdmitted> {
        check_bytes(bytes)?;
        let digest = digest(bytes);
        let compiled = self.compiled(&digest, bytes)?;
        // What does not even fit the smaller pool is no native guest.
        let (class, component) = match compiled.component(self.engine(Class::Native)) {
            Ok(component) if class_of(&component) == Class::Native => (Class::Native, component),
            _ => (Class::Dynamic, compiled.component(self.engine(Class::Dynamic)).map_err(not_usable)?),
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

    /// What the engine makes of a component, from the cache if it is there. Both engines have the same settings but for
    /// their pools, so it fits either.
    fn compiled(&self, digest: &Digest, bytes: &[u8]) -> Result<Compiled, NotAdmitted> {
        let engine = self.engine(Class::Native);
        let cached = || self.shared.cache.as_ref().and_then(|cache| cache.load(engine, digest));
        if let Some(compiled) = cached() {
            return Ok(compiled);
        }
        let _one_at_a_time = self.shared.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever was before may have compiled the same.
        if let Some(compiled) = cached() {
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

/// It was compiled, and no pool takes it: it wants more instances, memories or tables than any rule may have.
fn not_usable(error: wasmtime::Error) -> NotAdmitted {
    let detail = format!("not usable: {error:#}; rebuild it with a current toolchain, or make it smaller");
    NotAdmitted::new(Reason::NotAComponent, detail)
}

/// A language runtime shows in what it starts with: several memories, or a large one.
fn class_of(component: &Component) -> Class {
    const NATIVE_INITIAL_BYTES: u64 = 2 << 20;
    let small = component.resources_required().is_some_and(|needed| {
        needed.num_memories <= 2 && needed.max_initial_memory_size.is_none_or(|bytes| bytes <= NATIVE_INITIAL_BYTES)
    });
    if small { Class::Native } else { Class::Dynamic }
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
    // Beside the guests of events, uploads are described and checked.
    let instances = settings.concurrency as u32 + 4;
    let limits = settings.limits(class);
    let (memories, keep_resident) = match class {
        Class::Native => (2, 256 << 10),
        Class::Dynamic => (3, 16 << 20),
    };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances * 32)
        .total_memories(instances * memories)
        .total_tables(instances * 6)
        .max_memories_per_component(memories)
        .max_memories_per_module(memories)
        .max_tables_per_component(6)
        .max_tables_per_module(6)
        .max_core_instances_per_component(32)
        .max_component_instance_size(1 << 20)
        .max_core_instance_size(1 << 20)
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
