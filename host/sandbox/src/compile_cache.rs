use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;
use wasmtime::{Engine, Precompiled};

use crate::admission::Digest;

/// Raised with every change of what a file holds: versions of Belfry may share a directory.
const FORMAT: u32 = 2;
const CHECKSUM_BYTES: usize = 32;
const TIME_BYTES: usize = 8;

/// What the engine made of a component.
pub(crate) struct Compiled {
    pub(crate) code: Vec<u8>,
    /// How long that took.
    pub(crate) time: Duration,
}

impl Compiled {
    #[expect(unsafe_code, reason = "the engine trusts what it compiled before; who wrote it is ours")]
    pub(crate) fn component(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: the bytes are what an engine of this program made: in this process, or in one that this process started
        // and that had no other way to answer, or before, kept in a directory that only the owner of this process can
        // write to, with a checksum. The engine checks its version and settings itself.
        unsafe { Component::deserialize(engine, &self.code) }
    }
}

/// Keeps compiled components on disk, so that a restart need not compile them again.
///
/// A file holds a SHA-256, how long compiling took, and then what the engine made of a component; its name tells the
/// component's digest, the engine's version and settings, and this format. The directory is readable for its owner only: whoever can
/// write there runs code in the host. Files from elsewhere are never taken.
pub(crate) struct CompileCache {
    directory: PathBuf,
}

impl CompileCache {
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
        }
        Ok(Self { directory: directory.to_owned() })
    }

    pub(crate) fn load(&self, engine: &Engine, digest: &Digest) -> Option<Compiled> {
        let mut bytes = fs::read(self.path(engine, digest)).ok()?;
        let (checksum, kept) = bytes.split_at_checked(CHECKSUM_BYTES)?;
        if Sha256::digest(kept).as_slice() != checksum {
            tracing::warn!(%digest, "the cached compilation is damaged and is made anew");
            return None;
        }
        let time = Duration::from_nanos(u64::from_le_bytes(*kept.first_chunk::<TIME_BYTES>()?));
        bytes.drain(..CHECKSUM_BYTES + TIME_BYTES);
        if !matches!(Engine::detect_precompiled(&bytes), Some(Precompiled::Component)) {
            tracing::warn!(%digest, "the cached compilation is of another kind and is made anew");
            return None;
        }
        Some(Compiled { code: bytes, time })
    }

    /// Keep a compiled component. A failure only costs time at the next start.
    pub(crate) fn keep(&self, engine: &Engine, digest: &Digest, compiled: &Compiled) {
        let keep = || {
            let time = u64::try_from(compiled.time.as_nanos()).unwrap_or(u64::MAX).to_le_bytes();
            let checksum = Sha256::new().chain_update(time).chain_update(&compiled.code).finalize();
            // A reader must see a whole file or none.
            let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
            file.write_all(&checksum)?;
            file.write_all(&time)?;
            file.write_all(&compiled.code)?;
            file.persist(self.path(engine, digest)).map_err(|error| error.error)
        };
        if let Err(error) = keep() {
            tracing::warn!(%digest, %error, "cannot keep the compilation; the next start compiles it again");
        }
    }

    fn path(&self, engine: &Engine, digest: &Digest) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        self.directory.join(format!("{digest}-{:016x}.{FORMAT}.cwasm", hasher.finish()))
    }
}
