mod database;
mod installation;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tokio::sync::OnceCell;
use uuid::Uuid;

pub use database::Database;
use installation::Installation;

use super::guarded::Slot;
use super::ports::{STARTS, free_port, says_taken};
use super::shared_directory::shared_directory;
use super::{Certificates, Guarded, Lifetime, ProcessId, Signal};

/// Time limit to start or stop; a start includes the recovery after a kill.
const PATIENCE: Duration = Duration::from_secs(60);

/// Options for starting a PostgreSQL.
#[derive(Default)]
pub struct PostgresOptions<'a> {
    /// Its port; a free one by default.
    pub port: Option<u16>,
    /// Additional settings for `postgresql.conf`; they override the common ones.
    pub settings: &'a [(&'a str, &'a str)],
    /// If set, connections must be encrypted, with this certificate, and all roles but the superuser `postgres` need a
    /// password.
    pub certificates: Option<&'a Certificates>,
    /// How long it runs.
    pub lifetime: Lifetime,
}

/// A separate PostgreSQL: one cluster, on 127.0.0.1, with durable writes.
///
/// Any client that reaches its port may connect as any role, without a password, unless it has certificates.
pub struct Postgres {
    installation: Installation,
    directory: PathBuf,
    port: u16,
    /// Certificate file of the authority that signed its certificate, if connections are encrypted.
    authority: Option<PathBuf>,
    lifetime: Lifetime,
    process: Slot,
}

impl Postgres {
    /// Starts one in this directory, on a free port.
    ///
    /// # Errors
    /// Returns an error if PostgreSQL is not installed or does not start.
    pub async fn start(directory: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_with(directory, PostgresOptions { settings, ..Default::default() }).await
    }

    /// Starts one on a given port.
    ///
    /// # Errors
    /// Returns an error in the same cases as [`Self::start`], and if the port is taken.
    pub async fn start_at(directory: &Path, port: u16) -> Result<Self> {
        Self::start_with(directory, PostgresOptions { port: Some(port), ..Default::default() }).await
    }

    /// Starts one with options. An existing cluster is used.
    ///
    /// # Errors
    /// Returns an error in the same cases as [`Self::start_at`].
    pub async fn start_with(directory: &Path, options: PostgresOptions<'_>) -> Result<Self> {
        let installation = Installation::find()?;
        std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        // The real path: a symbolic link may be in a directory that the user of PostgreSQL cannot reach.
        let directory = &directory.canonicalize()?;
        let data = data_directory(&installation, directory)?;
        if !data.join("PG_VERSION").exists() {
            let mut initdb = installation.command("initdb");
            initdb.arg("-D").arg(&data).args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]);
            // If the machine fails now, there is nothing to lose yet.
            initdb.arg("--no-sync");
            installation.run(initdb).await?;
            append_settings(&data, COMMON_SETTINGS)?;
        }
        append_settings(&data, options.settings)?;
        if let Some(certificates) = options.certificates {
            encrypt(&installation, &data, certificates)?;
        }
        let authority = options.certificates.map(|certificates| certificates.authority().to_owned());
        Self::run(installation, directory, options.port, authority, options.lifetime).await
    }

    /// Returns whether a PostgreSQL can run in this directory: PostgreSQL refuses to run as root, and the user that it
    /// runs as instead may have no access to root's directories.
    ///
    /// # Errors
    /// Returns an error if PostgreSQL is not installed.
    pub fn reaches(directory: &Path) -> Result<bool> {
        Installation::find()?.reaches(directory)
    }

    async fn run(
        installation: Installation,
        directory: &Path,
        wanted: Option<u16>,
        authority: Option<PathBuf>,
        lifetime: Lifetime,
    ) -> Result<Self> {
        let mut starts = 0;
        loop {
            starts += 1;
            let port = wanted.map_or_else(free_port, Ok)?;
            append_settings(&directory.join("data"), &[("port", &port.to_string())])?;
            match launch(&installation, directory, &lifetime).await {
                Ok(process) => {
                    let (directory, process) = (directory.to_owned(), Slot::new(process));
                    return Ok(Self { installation, directory, port, authority, lifetime, process });
                }
                Err(error) if wanted.is_none() && starts < STARTS && says_taken(&error) => {}
                Err(error) => return Err(error.context(format!("PostgreSQL on port {port}"))),
            }
        }
    }

    /// Returns the URL of a database for a role.
    pub fn url(&self, database: &str, role: &str) -> String {
        url(self.port, database, role, self.authority.as_deref())
    }

    /// Returns the superuser's URL of the database `postgres`.
    pub fn admin_url(&self) -> String {
        self.url("postgres", "postgres")
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the process id of its postmaster, protected against reuse of the number.
    ///
    /// # Errors
    /// Returns an error if it is not running.
    pub fn id(&self) -> Result<ProcessId> {
        self.process.id()
    }

    /// Returns the number of its postmaster's process.
    ///
    /// # Errors
    /// Returns an error if it is not running.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.id()?.pid())
    }

    /// Returns the path of its log.
    pub fn log(&self) -> PathBuf {
        log_file(&self.directory)
    }

    /// Creates an empty database with a unique name.
    ///
    /// # Errors
    /// Returns an error if the server refuses.
    pub async fn create_database(&self) -> Result<Database> {
        let name = format!("test_{}", Uuid::new_v4().simple());
        self.execute(&format!("CREATE DATABASE {name}")).await?;
        Ok(Database::new(name, self.port, self.authority.clone()))
    }

    /// Runs one statement as superuser in the database `postgres`.
    ///
    /// # Errors
    /// Returns an error if the server is not running or refuses.
    pub async fn execute(&self, statement: &str) -> Result<()> {
        let options: sqlx::postgres::PgConnectOptions = self.admin_url().parse()?;
        let mut connection: PgConnection =
            options.connect().await.with_context(|| format!("cannot connect to PostgreSQL on port {}", self.port))?;
        let done = sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await;
        done.with_context(|| format!("PostgreSQL refused: {statement}"))?;
        Ok(connection.close().await?)
    }

    /// Kills all its processes with SIGKILL, like a machine failure that spares the disk's cache, and waits until the
    /// last one is gone.
    ///
    /// # Errors
    /// Returns an error if it is not running.
    pub async fn kill(&self) -> Result<()> {
        let process = self.process.take()?;
        let postmaster = process.id().clone();
        // While stopped, it starts no children between the listing and its end.
        postmaster.stop_running().await?;
        let children = postmaster.children();
        process.end(Signal::Kill, PATIENCE).await?;
        for child in children {
            // Left alone, a busy child would continue, and could even commit. Most notice and exit before that.
            let _ = child.signal(Signal::Kill);
            child.wait_until_gone(PATIENCE).await?;
        }
        Ok(())
    }

    /// Stops it: running transactions are rolled back, connections are closed, everything is on disk.
    ///
    /// # Errors
    /// Returns an error if it is not running or does not exit in time.
    pub async fn stop(&self) -> Result<()> {
        let status = self.process.take()?.end(Signal::Interrupt, PATIENCE).await?;
        anyhow::ensure!(status.success(), "PostgreSQL exited with {status}; see {}", self.log().display());
        Ok(())
    }

    /// Starts it again with the same data on the same port; stops it first if it is running.
    ///
    /// # Errors
    /// Returns an error if it does not start.
    pub async fn restart(&self) -> Result<()> {
        if self.process.is_running() {
            self.stop().await?;
        }
        self.process.put(launch(&self.installation, &self.directory, &self.lifetime).await?);
        Ok(())
    }

    /// Creates a standby that follows this server asynchronously: a promotion loses what the standby has not received.
    ///
    /// # Errors
    /// Returns an error if the standby cannot be created or does not start.
    pub async fn standby(&self, directory: &Path) -> Result<Self> {
        let data = data_directory(&self.installation, directory)?;
        let mut copy = self.installation.command("pg_basebackup");
        copy.arg("-D").arg(&data).arg("-d").arg(self.url("postgres", "postgres"));
        copy.args(["-R", "-X", "stream", "-c", "fast", "--no-sync"]);
        self.installation.run(copy).await?;
        let lifetime = Lifetime::Ours;
        Self::run(self.installation.clone(), directory, None, self.authority.clone(), lifetime).await
    }

    /// Stops the WAL senders, so that standbys receive nothing more, until this server ends.
    ///
    /// # Errors
    /// Returns an error if it is not running.
    pub async fn cut_standbys_off(&self) -> Result<()> {
        for child in self.id()?.children() {
            let command = std::fs::read(format!("/proc/{}/cmdline", child.pid())).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains("walsender") {
                child.stop_running().await?;
            }
        }
        Ok(())
    }

    /// Dumps a database with `pg_dump` and discards the output.
    ///
    /// # Errors
    /// Returns an error if the dump fails.
    pub async fn dump(&self, url: &str) -> Result<()> {
        let mut dump = self.installation.command("pg_dump");
        dump.args(["-f", "/dev/null", "-d", url]);
        self.installation.run(dump).await
    }

    /// Promotes a standby and waits until it accepts writes.
    ///
    /// # Errors
    /// Returns an error if it is not a standby, or is not promoted in time.
    pub async fn promote(&self) -> Result<()> {
        let mut promote = self.installation.command("pg_ctl");
        promote.args(["promote", "-w", "-D"]).arg(self.directory.join("data"));
        self.installation.run(promote).await
    }

    /// Leaves it running, even after this process has ended.
    ///
    /// # Errors
    /// Returns an error if it is not running.
    pub fn leave(self) -> Result<ProcessId> {
        Ok(self.process.take()?.leave())
    }
}

/// Returns the PostgreSQL that all tests of one process share; each test creates its own database in it.
///
/// # Errors
/// Returns an error if it does not start.
pub async fn shared_postgres() -> Result<&'static Postgres> {
    static SHARED: OnceCell<Postgres> = OnceCell::const_new();
    let start = || async {
        let directory = shared_directory()?;
        let lifetime = Lifetime::OursWithDirectory(directory.clone());
        Postgres::start_with(&directory, PostgresOptions { lifetime, ..Default::default() }).await
    };
    SHARED.get_or_try_init(start).await
}

const COMMON_SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    // The path of a socket must be short, and a test's directory may be long.
    ("unix_socket_directories", ""),
    ("max_connections", "200"),
    ("max_prepared_transactions", "0"),
    ("fsync", "on"),
    ("log_line_prefix", "%m [%p] %q%a@%d "),
];

fn url(port: u16, database: &str, role: &str, authority: Option<&Path>) -> String {
    let url = format!("postgres://{role}@127.0.0.1:{port}/{database}");
    match authority {
        Some(authority) => format!("{url}?sslmode=verify-full&sslrootcert={}", authority.display()),
        None => url,
    }
}

/// Appends settings. Later lines override earlier ones, so a line is added only where the last one differs.
fn append_settings(data: &Path, settings: &[(&str, &str)]) -> Result<()> {
    let path = data.join("postgresql.conf");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = OpenOptions::new().append(true).open(&path);
    let mut file = file.with_context(|| format!("cannot write {}", path.display()))?;
    for (name, value) in settings {
        let beginning = format!("{name} = ");
        let line = format!("{beginning}'{}'", value.replace('\'', "''"));
        if text.lines().rfind(|line| line.starts_with(&beginning)) != Some(line.as_str()) {
            writeln!(file, "{line}")?;
        }
    }
    Ok(())
}

fn encrypt(installation: &Installation, data: &Path, certificates: &Certificates) -> Result<()> {
    // PostgreSQL accepts a key only if no other user can read it.
    for (from, to) in [(certificates.certificate(), "server.crt"), (certificates.key(), "server.key")] {
        let to = data.join(to);
        std::fs::copy(from, &to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        installation.own(&to, 0o600)?;
    }
    append_settings(data, &[("ssl", "on"), ("ssl_cert_file", "server.crt"), ("ssl_key_file", "server.key")])?;
    let access = ["hostssl all,replication postgres 127.0.0.1/32 trust", "hostssl all all 127.0.0.1/32 scram-sha-256"];
    Ok(std::fs::write(data.join("pg_hba.conf"), access.join("\n") + "\n")?)
}

fn data_directory(installation: &Installation, directory: &Path) -> Result<PathBuf> {
    let data = directory.join("data");
    installation.make_directory(directory)?;
    installation.make_directory(&data)?;
    Ok(data)
}

fn log_file(directory: &Path) -> PathBuf {
    directory.join("postgres.log")
}

async fn launch(installation: &Installation, directory: &Path, lifetime: &Lifetime) -> Result<Guarded> {
    let data = directory.join("data");
    let mut command = installation.command("postgres");
    command.arg("-D").arg(&data);
    // SIGQUIT ends the children too, and leaves the rest to recovery.
    let mut process = Guarded::start("PostgreSQL", command, &log_file(directory), lifetime, Signal::Quit)?;
    let (state, pid) = (data.join("postmaster.pid"), process.id().pid().to_string());
    process.wait_until(PATIENCE, || says_ready(&state, &pid)).await?;
    Ok(process)
}

/// The file may be from a postmaster that was killed, so its pid has to match.
fn says_ready(state: &Path, pid: &str) -> bool {
    let text = std::fs::read_to_string(state).unwrap_or_default();
    let mut lines = text.lines().map(str::trim);
    lines.next() == Some(pid) && matches!(lines.nth(6), Some("ready" | "standby"))
}
