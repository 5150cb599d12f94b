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

/// What starting and ending may take at most; a recovery after a kill is part of a start.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a PostgreSQL is started.
#[derive(Default)]
pub struct PostgresOptions<'a> {
    /// Its port; otherwise a free one.
    pub port: Option<u16>,
    /// What goes into `postgresql.conf`, after what is there for every one.
    pub settings: &'a [(&'a str, &'a str)],
    /// Encrypted connections only, with this certificate; and all but the superuser `postgres` need a password.
    pub certificates: Option<&'a Certificates>,
    /// How long it runs.
    pub lifetime: Lifetime,
}

/// A PostgreSQL of its own: one cluster, on 127.0.0.1, with every safety of the disk on.
///
/// Whoever reaches its port may connect as any role, without a password, unless it has certificates.
pub struct Postgres {
    installation: Installation,
    directory: PathBuf,
    port: u16,
    /// The file with the authority that signed its certificate, if connections are encrypted.
    authority: Option<PathBuf>,
    lifetime: Lifetime,
    process: Slot,
}

impl Postgres {
    /// Start one in this directory, on a free port.
    ///
    /// # Errors
    /// If PostgreSQL is not installed or does not start.
    pub async fn start(directory: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_with(directory, PostgresOptions { settings, ..Default::default() }).await
    }

    /// The same on a given port.
    ///
    /// # Errors
    /// As with [`Self::start`], and if the port is taken.
    pub async fn start_at(directory: &Path, port: u16) -> Result<Self> {
        Self::start_with(directory, PostgresOptions { port: Some(port), ..Default::default() }).await
    }

    /// The same with options. A cluster that is there already is used.
    ///
    /// # Errors
    /// As with [`Self::start_at`].
    pub async fn start_with(directory: &Path, options: PostgresOptions<'_>) -> Result<Self> {
        let installation = Installation::find()?;
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        // Where it really is: a link may lie where the user of PostgreSQL may not go.
        let directory = &directory.canonicalize()?;
        let data = data_directory(&installation, directory)?;
        if !data.join("PG_VERSION").exists() {
            let mut initdb = installation.command("initdb");
            initdb.arg("-D").arg(&data).args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]);
            // Should the machine fail now, there is nothing to lose yet.
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

    /// Whether one could be started in this directory: PostgreSQL refuses to run as root, and the user that it runs as
    /// instead need not have access to root's directories.
    ///
    /// # Errors
    /// If PostgreSQL is not installed.
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

    /// Where a role finds a database.
    pub fn url(&self, database: &str, role: &str) -> String {
        url(self.port, database, role, self.authority.as_deref())
    }

    /// Where the superuser finds the database `postgres`.
    pub fn admin_url(&self) -> String {
        self.url("postgres", "postgres")
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its postmaster.
    ///
    /// # Errors
    /// If it does not run.
    pub fn id(&self) -> Result<ProcessId> {
        self.process.id()
    }

    /// The number of its postmaster.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.id()?.pid())
    }

    /// What it writes while it runs.
    pub fn log(&self) -> PathBuf {
        log_file(&self.directory)
    }

    /// An empty database that nobody else has.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn create_database(&self) -> Result<Database> {
        let name = format!("test_{}", Uuid::new_v4().simple());
        self.execute(&format!("CREATE DATABASE {name}")).await?;
        Ok(Database::new(name, self.port, self.authority.clone()))
    }

    /// Run one statement as superuser in the database `postgres`.
    ///
    /// # Errors
    /// If the server does not run or refuses.
    pub async fn execute(&self, statement: &str) -> Result<()> {
        let options: sqlx::postgres::PgConnectOptions = self.admin_url().parse()?;
        let mut connection: PgConnection =
            options.connect().await.with_context(|| format!("cannot connect to PostgreSQL on port {}", self.port))?;
        let done = sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await;
        done.with_context(|| format!("PostgreSQL refused: {statement}"))?;
        Ok(connection.close().await?)
    }

    /// SIGKILL of all of it, as when a machine fails but for the disk's cache; back when its last process is gone.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn kill(&self) -> Result<()> {
        let process = self.process.take()?;
        let postmaster = process.id().clone();
        // Stopped, it starts no children between the list and its end.
        postmaster.stop_running().await?;
        let children = postmaster.children();
        process.end(Signal::Kill, PATIENCE).await?;
        for child in children {
            // Left alone, one at work would go on, and even commit. Most notice and end before that.
            let _ = child.signal(Signal::Kill);
            child.wait_until_gone(PATIENCE).await?;
        }
        Ok(())
    }

    /// Stop it: running transactions are rolled back, connections closed, everything is on disk.
    ///
    /// # Errors
    /// If it does not run, or does not end in time.
    pub async fn stop(&self) -> Result<()> {
        let status = self.process.take()?.end(Signal::Interrupt, PATIENCE).await?;
        anyhow::ensure!(status.success(), "PostgreSQL ended with {status}; see {}", self.log().display());
        Ok(())
    }

    /// Start it again with the same data on the same port; stop it before, if it runs.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn restart(&self) -> Result<()> {
        if self.process.is_running() {
            self.stop().await?;
        }
        self.process.put(launch(&self.installation, &self.directory, &self.lifetime).await?);
        Ok(())
    }

    /// A copy that follows this one, asynchronously: what it has not received is lost by a promotion.
    ///
    /// # Errors
    /// If the copy cannot be made or does not start.
    pub async fn standby(&self, directory: &Path) -> Result<Self> {
        let data = data_directory(&self.installation, directory)?;
        let mut copy = self.installation.command("pg_basebackup");
        copy.arg("-D").arg(&data).arg("-d").arg(self.url("postgres", "postgres"));
        copy.args(["-R", "-X", "stream", "-c", "fast", "--no-sync"]);
        self.installation.run(copy).await?;
        let lifetime = Lifetime::Ours;
        Self::run(self.installation.clone(), directory, None, self.authority.clone(), lifetime).await
    }

    /// What the copies that follow this one are sent, they are sent no more, until it ends.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn cut_standbys_off(&self) -> Result<()> {
        for child in self.id()?.children() {
            let command = std::fs::read(format!("/proc/{}/cmdline", child.pid())).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains("walsender") {
                child.stop_running().await?;
            }
        }
        Ok(())
    }

    /// Write a database out with `pg_dump`, and throw the text away.
    ///
    /// # Errors
    /// If that fails.
    pub async fn dump(&self, url: &str) -> Result<()> {
        let mut dump = self.installation.command("pg_dump");
        dump.args(["-f", "/dev/null", "-d", url]);
        self.installation.run(dump).await
    }

    /// Make a standby the primary; back when it takes writes.
    ///
    /// # Errors
    /// If it is none, or does not become one in time.
    pub async fn promote(&self) -> Result<()> {
        let mut promote = self.installation.command("pg_ctl");
        promote.args(["promote", "-w", "-D"]).arg(self.directory.join("data"));
        self.installation.run(promote).await
    }

    /// Let it run on, also after this process.
    ///
    /// # Errors
    /// If it does not run.
    pub fn leave(self) -> Result<ProcessId> {
        Ok(self.process.take()?.leave())
    }
}

/// The PostgreSQL that all tests of one process share; each makes a database of its own in it.
///
/// # Errors
/// If it does not start.
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
    // The path of a socket has to be short, and that of a test's directory need not be.
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

/// Later lines of the file win, so one is added only where the last one says otherwise.
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
    // PostgreSQL takes a key only if nobody else can read it.
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
    // SIGQUIT ends the children too, and leaves the rest to the recovery.
    let mut process = Guarded::start("PostgreSQL", command, &log_file(directory), lifetime, Signal::Quit)?;
    let (state, pid) = (data.join("postmaster.pid"), process.id().pid().to_string());
    process.wait_until(PATIENCE, || says_ready(&state, &pid)).await?;
    Ok(process)
}

/// The file may be that of a postmaster that was killed, so its pid has to be ours.
fn says_ready(state: &Path, pid: &str) -> bool {
    let text = std::fs::read_to_string(state).unwrap_or_default();
    let mut lines = text.lines().map(str::trim);
    lines.next() == Some(pid) && matches!(lines.nth(6), Some("ready" | "standby"))
}
