use std::cmp::Reverse;
use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;
use wasmtime::{Engine, Precompiled};

use crate::admission::Digest;

/// Version of the file format, incremented with every change to it: versions of Belfry may share a directory.
const FORMAT: u32 = 2;
/// Maximum size of all files together. A compiled CPython component has 35 MiB.
const MAX_CACHE_BYTES: u64 = 2 << 30;
const CHECKSUM_BYTES: usize = 32;
const TIME_BYTES: usize = 8;

/// A compiled component.
pub(crate) struct Compiled {
    pub(crate) code: Vec<u8>,
    /// How long compiling took.
    pub(crate) time: Duration,
}

impl Compiled {
    #[expect(unsafe_code, reason = "the engine trusts precompiled code; only this user can have written it")]
    pub(crate) fn component(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: an engine of this program produced the bytes: in this process; in a child process, to whose output
        // nothing else can write; or in an earlier run, which stored them with a checksum in a directory that only the
        // owner of this process can write to. The engine checks its version and settings itself.
        unsafe { Component::deserialize(engine, &self.code) }
    }
}

/// A cache of compiled components on disk, so that a restart does not compile them again.
///
/// A file holds a SHA-256 checksum, the time that compiling took, and the compiled component. Its name has the
/// component's digest, a hash of the engine's version and settings, and the version of the file format. A process that
/// can write to the directory can run code in the host, so directory and files must belong to the user of this process
/// and be writable only by that user. When the files exceed the maximum size, the least recently used are removed.
pub(crate) struct CompileCache {
    directory: PathBuf,
    most_bytes: u64,
}

impl CompileCache {
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        if let Some(problem) = foreign(&fs::metadata(directory)?) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
        }
        let cache = Self { directory: directory.to_owned(), most_bytes: MAX_CACHE_BYTES };
        cache.prune();
        Ok(cache)
    }

    pub(crate) fn load(&self, engine: &Engine, digest: &Digest) -> Option<Compiled> {
        let mut file = fs::File::open(self.path(engine, digest)).ok()?;
        if let Some(problem) = foreign(&file.metadata().ok()?) {
            tracing::error!(
                %digest,
                problem,
                "a cached compilation may come from another user; it is ignored and the component is compiled again"
            );
            return None;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        let (checksum, kept) = bytes.split_at_checked(CHECKSUM_BYTES)?;
        if Sha256::digest(kept).as_slice() != checksum {
            tracing::warn!(%digest, "the cached compilation is corrupt; the component is compiled again");
            return None;
        }
        let time = Duration::from_nanos(u64::from_le_bytes(*kept.first_chunk::<TIME_BYTES>()?));
        bytes.drain(..CHECKSUM_BYTES + TIME_BYTES);
        if !matches!(Engine::detect_precompiled(&bytes), Some(Precompiled::Component)) {
            tracing::warn!(%digest, "the cached compilation has another format; the component is compiled again");
            return None;
        }
        // The most recently used files are removed last. If this fails, the file only appears older than it is.
        let _ = file.set_modified(SystemTime::now());
        Some(Compiled { code: bytes, time })
    }

    /// Stores a compiled component. A failure only costs time at the next start.
    pub(crate) fn keep(&self, engine: &Engine, digest: &Digest, compiled: &Compiled) {
        let keep = || {
            let time = u64::try_from(compiled.time.as_nanos()).unwrap_or(u64::MAX).to_le_bytes();
            let checksum = Sha256::new().chain_update(time).chain_update(&compiled.code).finalize();
            // A reader must see a complete file or none.
            let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
            file.write_all(&checksum)?;
            file.write_all(&time)?;
            file.write_all(&compiled.code)?;
            file.persist(self.path(engine, digest)).map_err(|error| error.error)
        };
        if let Err(error) = keep() {
            tracing::warn!(%digest, %error, "cannot store the compilation; the next start compiles the component again");
        }
        self.prune();
    }

    /// Removes the least recently used files until the rest fits. Loaded components no longer need their files.
    fn prune(&self) {
        let pruned = self.files().and_then(|mut files| {
            files.sort_by_key(|(used, _, _)| Reverse(*used));
            let mut bytes = 0;
            let too_many = files.into_iter().filter(|(_, size, _)| {
                bytes += size;
                bytes > self.most_bytes
            });
            too_many.map(|(_, _, path)| path).try_for_each(fs::remove_file)
        });
        if let Err(error) = pruned {
            let directory = self.directory.display();
            tracing::warn!(%directory, %error, "cannot remove unused compilations");
        }
    }

    /// Returns the files of this and other versions, and temporary files left behind by a crash: time of last use,
    /// size, path.
    fn files(&self) -> io::Result<Vec<(SystemTime, u64, PathBuf)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            // Another process may remove the file at the same time.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_file() {
                files.push((metadata.modified()?, metadata.len(), entry.path()));
            }
        }
        Ok(files)
    }

    fn path(&self, engine: &Engine, digest: &Digest) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        self.directory.join(format!("{digest}-{:016x}.{FORMAT}.cwasm", hasher.finish()))
    }
}

/// Returns the reason why another user may have written a file or directory, if there is one.
#[cfg(unix)]
fn foreign(metadata: &Metadata) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let (owner, us) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != us {
        return Some(format!("it belongs to user {owner} and this process runs as user {us}"));
    }
    // The permission bits of the directory are set right after this check.
    (metadata.is_file() && metadata.mode() & 0o022 != 0).then(|| "users other than its owner can write to it".into())
}

#[cfg(not(unix))]
fn foreign(_: &Metadata) -> Option<String> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn cache(directory: &Path, most_bytes: u64) -> CompileCache {
        CompileCache { most_bytes, ..CompileCache::open(directory).expect("a directory of this user") }
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a UTF-8 name"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_used_longest_ago_is_removed_first() {
        let directory = tempfile::tempdir().expect("a directory");
        for (age, name) in [(30, "c"), (10, "a"), (20, "b")] {
            let file = fs::File::create(directory.path().join(name)).expect("a file");
            file.set_len(100).expect("its size");
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).expect("its age");
        }
        cache(directory.path(), 250).prune();
        assert_eq!(names(directory.path()), ["a", "b"]);
        cache(directory.path(), 250).prune();
        assert_eq!(names(directory.path()), ["a", "b"], "they fit");
    }

    #[test]
    fn what_others_can_write_to_is_not_used() {
        let directory = tempfile::tempdir().expect("a directory");
        let engine = Engine::default();
        let digest = crate::digest(b"a component");
        let cache = cache(directory.path(), 1 << 30);
        let component = engine.precompile_component(b"\0asm\x0d\0\x01\0").expect("the smallest component");
        cache.keep(&engine, &digest, &Compiled { code: component, time: Duration::ZERO });
        assert!(cache.load(&engine, &digest).is_some());
        let path = cache.path(&engine, &digest);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("its bits");
        assert!(cache.load(&engine, &digest).is_none());
    }

    #[test]
    fn a_directory_of_someone_else_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::chown(directory.path(), Some(65534), None).expect("its owner");
        let refused = CompileCache::open(directory.path()).map(|_| ()).expect_err("refused");
        assert!(refused.to_string().contains("belongs to user 65534"), "{refused}");
    }
}
