use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::servers::programs::{find_program, is_root};

const REMEDY: &str = "apt-get install postgresql";
const OLDEST: u32 = 15;

/// The programs of PostgreSQL, and the user that runs them.
#[derive(Clone, Debug)]
pub(super) struct Installation {
    bin: PathBuf,
    /// The user and group that PostgreSQL runs as if this process is root, since PostgreSQL refuses to run as root.
    user: Option<(u32, u32)>,
}

impl Installation {
    /// Finds the installation of this machine.
    pub(super) fn find() -> Result<Self> {
        // Debian keeps them in one directory per version, outside the PATH.
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
        // Only `initdb` finds its siblings through a symbolic link, so all are taken from its real directory.
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
        number.with_context(|| format!("postgres --version prints {text:?}, which contains no version"))
    }

    /// Returns a command that runs one of its programs as the right user.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        // Messages are searched for words, and a developer's own client settings must not interfere.
        command.env("LC_ALL", "C").env_remove("PGOPTIONS").env_remove("PGSERVICE").env_remove("PGPASSWORD");
        command.env_remove("PGSSLMODE").env_remove("PGDATA").current_dir("/");
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    /// Runs one of its programs to completion.
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

    /// Creates a directory that the right user owns and can reach.
    pub(super) fn make_directory(&self, directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        self.own(directory, 0o700)?;
        if let Some((user, _)) = self.user {
            open_the_way_to(directory, user)?;
        }
        Ok(())
    }

    /// Returns whether the right user can reach the contents of this directory.
    pub(super) fn reaches(&self, directory: &Path) -> Result<bool> {
        match self.user {
            Some((user, _)) => Ok(closed(directory.canonicalize()?.ancestors(), user)?.is_none()),
            None => Ok(true),
        }
    }

    /// Sets a file's mode, and makes the right user its owner.
    pub(super) fn own(&self, path: &Path, mode: u32) -> Result<()> {
        if let Some((user, group)) = self.user {
            chown(path, Some(user), Some(group))
                .with_context(|| format!("cannot change the owner of {}", path.display()))?;
        }
        let permissions = Permissions::from_mode(mode);
        std::fs::set_permissions(path, permissions)
            .with_context(|| format!("cannot set the permissions of {}", path.display()))
    }
}

/// Returns the first of these directories that this user may not traverse.
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

/// Lets the user traverse temporary directories, which are closed to other users, without permission to list them.
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
