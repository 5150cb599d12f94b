use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::admission::Digest;

const CHECKSUM_BYTES: usize = 32;

/// Keeps compiled components on disk, so that a restart need not compile them again.
///
/// A file holds a SHA-256 and then what the engine made of a component; its name tells the component's digest and the
/// engine's version and settings. The directory is readable for its owner only: whoever can write there runs code in the
/// host. Files from elsewhere are never taken.
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

    pub(crate) fn load(&self, engine: &Engine, digest: &Digest) -> Option<Component> {
        let bytes = fs::read(self.path(engine, digest)).ok()?;
        let (checksum, compiled) = bytes.split_at_checked(CHECKSUM_BYTES)?;
        if Sha256::digest(compiled).as_slice() != checksum {
            tracing::warn!(%digest, "the cached compilation is damaged and is made anew");
            return None;
        }
        deserialize(engine, compiled)
            .inspect_err(
                |error| tracing::warn!(%digest, %error, "the cached compilation is not usable and is made anew"),
            )
            .ok()
    }

    /// Keep a compiled component. A failure only costs time at the next start.
    pub(crate) fn keep(&self, engine: &Engine, digest: &Digest, component: &Component) {
        let kept = component.serialize().map_err(io::Error::other).and_then(|compiled| {
            // A reader must see a whole file or none.
            let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
            file.write_all(&Sha256::digest(&compiled))?;
            file.write_all(&compiled)?;
            file.persist(self.path(engine, digest)).map_err(|error| error.error)
        });
        if let Err(error) = kept {
            tracing::warn!(%digest, %error, "cannot keep the compilation; the next start compiles it again");
        }
    }

    fn path(&self, engine: &Engine, digest: &Digest) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        self.directory.join(format!("{digest}-{:016x}.cwasm", hasher.finish()))
    }
}

#[expect(unsafe_code, reason = "the engine trusts what it compiled before; the file's checksum and owner are ours")]
fn deserialize(engine: &Engine, compiled: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes are what `serialize` gave, in a directory that only the owner of this process can write to, and
    // their checksum is right. The engine checks its version and settings itself.
    unsafe { Component::deserialize(engine, compiled) }
}
