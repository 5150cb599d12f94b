use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::compile_cache::CompileCache;
use crate::resource_class::parts;
use crate::slots::Slots;
use crate::{Class, Compiler, Limits};

/// Interval at which running guests are checked for an expired deadline.
pub(crate) const EPOCH_TICK: Duration = Duration::from_millis(10);
/// Guests in addition to those of live events and replays: one for shadows and samples, one for an event that is run
/// again, three for releases that are loaded or tested, and one to spare.
const OTHERS: usize = 6;

/// Operator settings for guests.
#[derive(Clone, Debug)]
pub struct SandboxSettings {
    /// Maximum number of guests that run at once for live events. The pools have additional room for other guests.
    pub concurrency: usize,
    /// Limits of native guests.
    pub native: Limits,
    /// Limits of dynamic guests.
    pub dynamic: Limits,
    /// The categories that notifications may have.
    pub categories: Vec<String>,
    /// Directory in which compiled components are kept between runs. `None`: they are not kept.
    pub cache_directory: Option<PathBuf>,
    /// Where components are compiled.
    pub compiler: Compiler,
}

impl SandboxSettings {
    /// Returns the limits of a class.
    pub fn limits(&self, class: Class) -> &Limits {
        match class {
            Class::Native => &self.native,
            Class::Dynamic => &self.dynamic,
        }
    }

    /// Returns the maximum number of guests that run at once without a live event waiting for them.
    fn beside(&self) -> usize {
        self.concurrency.div_ceil(2) + OTHERS
    }
}

/// The reason why the sandbox cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The engine does not accept its settings, or does not support this machine.
    #[error("the WebAssembly engine cannot start: {0:#}")]
    Engine(wasmtime::Error),
    /// The cache directory cannot be used.
    #[error("cannot use {0} for compiled components: {1}; make it writable or choose another data directory")]
    Cache(PathBuf, std::io::Error),
}

/// The engines and pools with which components are loaded and run. Cheap to clone; all clones share engines and pools.
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
    /// Starts the engines and their clock.
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

    pub(crate) fn engine(&self, class: Class) -> &Engine {
        match class {
            Class::Native => &self.shared.native,
            Class::Dynamic => &self.shared.dynamic,
        }
    }

    pub(crate) fn settings(&self) -> &SandboxSettings {
        &self.shared.settings
    }

    /// Returns the directory of compiled components, if they are kept.
    pub(crate) fn cache(&self) -> Option<&CompileCache> {
        self.shared.cache.as_ref()
    }

    pub(crate) fn slots(&self) -> Arc<Slots> {
        self.shared.slots.clone()
    }
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

/// Returns the settings on which compiled components depend.
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

/// Starts the thread that advances the engines' epochs until all engines are dropped. A late tick counts as one tick,
/// so that a pause of the machine does not make guests appear slow.
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
    std::thread::Builder::new().name("guest-clock".into()).spawn(clock).expect("the system can start a thread");
}
