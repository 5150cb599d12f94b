use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::servers::programs::{find_program, is_root};

const REMEDY: &str = "apt-get install postgresql";
const OLDEST: u32 = 15;

/// The programs of PostgreSQL, and who runs them.
#[derive(Clone, Debug)]
pub(super) struct Installation {
    bin: PathBuf,
    /// PostgreSQL refuses to run as root, so then it runs as this user and group.
    user: Option<(u32, u32)>,
}

impl Installation {
    /// What this machine has.
    pub(super) fn find() -> Result<Self> {
        // Debian keeps them in a directory for each version, off the path.
        let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let directory = entry.ok()?.path();
                Some((directory.file_name()?.to_str()?.parse().ok()?, directory.join("bin")))
            })
            .collect();
        versions.sort();
        let directories: Vec<PathBuf> = versions.into_iter().rev().map(|(_, directory)| directory).collect();
        // Only `initdb` finds its siblings through a link, so all are taken from where it really is.
        let initdb = find_program("initdb", &directories, REMEDY)?.canonicalize()?;
        let bin = initdb.parent().context("initdb is in a directory")?.to_owned();
        let installation = Self { bin, user: if is_root() { Some(postgres_user()?) } else { None } };
        let version = installation.version()?;
        ensure!(version >= OLDEST, "PostgreSQL {version} is too old, {OLDEST} or newer is needed: {REMEDY}");
        Ok(installation)
    }

    fn version(&self) -> Result<u32> {
        let output = self.command("postgres").arg("--version").output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let number = text.split_whitespace().find_map(|word| word.split('.').next()?.parse().ok());
        number.with_context(|| format!("postgres --version says {text:?}, which tells no version"))
    }

    /// One of its programs, to be run as the right user.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        // Messages are searched for words, and no setting of a person's own client may slip in.
        command.env("LC_ALL", "C").env_remove("PGOPTIONS").env_remove("PGSERVICE").env_remove("PGPASSWORD");
        command.env_remove("PGSSLMODE").env_remove("PGDATA").current_dir("/");
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    /// Run one of its programs to its end.
    pub(super) async fn run(&self, mut command: Command) -> Result<()> {
        let program = command.get_program().to_owned();
        let output = tokio::task::spawn_blocking(move || command.output()).await?;
        let output = output.with_context(|| format!("cannot start {program:?}; reinstall it: {REMEDY}"))?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            bail!("{program:?} failed with {}:\n{}", output.status, String::from_utf8_lossy(&said).trim());
        }
        Ok(())
    }

    /// A directory that the right user owns and reaches.
    pub(super) fn make_directory(&self, directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        self.own(directory, 0o700)?;
        if let Some((user, _)) = self.user {
            open_the_way_to(directory, user)?;
        }
        Ok(())
    }

    /// Whether the right user can come to what is in this directory.
    pub(super) fn reaches(&self, directory: &Path) -> Result<bool> {
        match self.user {
            Some((user, _)) => Ok(closed(directory.canonicalize()?.ancestors(), user)?.is_none()),
            None => Ok(true),
        }
    }

    /// Give a file to the right user.
    pub(super) fn own(&self, path: &Path, mode: u32) -> Result<()> {
        if let Some((user, group)) = self.user {
            chown(path, Some(user), Some(group)).with_context(|| format!("cannot give away {}", path.display()))?;
        }
        let permissions = Permissions::from_mode(mode);
        std::fs::set_permissions(path, permissions).with_context(|| format!("cannot protect {}", path.display()))
    }
}

/// The first of these directories that this user may not pass.
fn closed<'a>(way: impl Iterator<Item = &'a Path>, user: u32) -> Result<Option<PathBuf>> {
    for ancestor in way {
        let metadata = std::fs::metadata(ancestor)?;
        let passable = if metadata.uid() == user { 0o100 } else { 0o001 };
        if metadata.permissions().mode() & passable == 0 {
            return Ok(Some(ancestor.to_owned()));
        }
    }
    Ok(None)
}

/// Temporary directories are closed to all others: let the other user pass through, without a look at what is there.
fn open_the_way_to(directory: &Path, user: u32) -> Result<()> {
    let temporary = std::env::temp_dir().canonicalize()?;
    let directory = directory.canonicalize()?;
    while let Some(closed) = closed(directory.ancestors().skip(1), user)? {
        if !closed.starts_with(&temporary) || closed == temporary {
            bail!(
                "PostgreSQL refuses to run as root, and user postgres cannot reach {}, because {} is closed; choose \
                 another directory (for tests with TMPDIR), or run as another user",
                directory.display(),
                closed.display()
            );
        }
        let mode = std::fs::metadata(&closed)?.permissions().mode();
        std::fs::set_permissions(&closed, Permissions::from_mode(mode | 0o001))?;
    }
    Ok(())
}

fn postgres_user() -> Result<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").context("cannot read the users in /etc/passwd")?;
    let user = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == "postgres").then_some(())?;
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    user.with_context(|| format!("PostgreSQL refuses to run as root, and there is no user postgres: {REMEDY}"))
}
