use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::servers::programs::find_program;

const VERSION: &str = "4.1.1";
/// The version that Kafka's logging interface is built for.
const LOGGING_VERSION: &str = "1.7.36";
const REMEDY: &str = "apt-get install maven default-jre-headless";

/// Kafka's program, a directory of Java archives.
#[derive(Clone, Debug)]
pub(super) struct Distribution {
    java: PathBuf,
    archives: PathBuf,
}

impl Distribution {
    /// Finds Kafka in the cache; the first time, Maven fetches it from Maven Central.
    pub(super) async fn find() -> Result<Self> {
        let java = find_program("java", &[], REMEDY)?;
        let archives = tokio::task::spawn_blocking(fetched).await??;
        Ok(Self { java, archives })
    }

    /// Returns a command that runs one of its classes with these Java options.
    pub(super) fn command(&self, class: &str, options: &[&str]) -> Command {
        let mut command = Command::new(&self.java);
        command.args(options).arg("-Djava.awt.headless=true");
        command.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"]);
        command.arg("-cp").arg(self.archives.join("*")).arg(class);
        command.env_remove("JAVA_TOOL_OPTIONS");
        command
    }

    /// Runs one of its classes to completion.
    pub(super) async fn run(&self, class: &str, arguments: &[String]) -> Result<()> {
        // It runs for half a second, too short for optimisation to pay off.
        let mut command = self.command(class, &["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        command.args(arguments).stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            bail!("{class} failed with {}:\n{}", output.status, String::from_utf8_lossy(&said).trim());
        }
        Ok(())
    }
}

/// Returns the directory of the archives, fetching them first if necessary.
fn fetched() -> Result<PathBuf> {
    let cache = cache_directory()?;
    let archives = cache.join(format!("kafka-{VERSION}"));
    if archives.is_dir() {
        return Ok(archives);
    }
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    // A second process waits here, then finds the archives.
    let lock = File::create(cache.join("kafka.lock"))?;
    lock.lock()?;
    if !archives.is_dir() {
        let fetching = tempfile::Builder::new().prefix("kafka-").tempdir_in(&cache)?;
        fetch(fetching.path())?;
        // In one step, so that no process finds an incomplete directory.
        std::fs::rename(fetching.path().join("archives"), &archives)?;
    }
    Ok(archives)
}

fn fetch(directory: &Path) -> Result<()> {
    let maven = find_program("mvn", &[], REMEDY)?;
    let project = directory.join("pom.xml");
    std::fs::write(&project, project_file())?;
    let mut command = Command::new(maven);
    command.args(["--batch-mode", "--quiet", "--file"]).arg(&project).arg("dependency:copy-dependencies");
    command.arg("-DincludeScope=runtime").arg("-DoutputDirectory=archives").current_dir(directory);
    let output = command.stdin(Stdio::null()).output().context("cannot start mvn, which fetches Kafka")?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!(
            "mvn could not fetch Kafka {VERSION} from Maven Central; it needs the network once, and a settings.xml if \
             that goes through a mirror. Its output:\n{}",
            String::from_utf8_lossy(&said).trim()
        );
    }
    Ok(())
}

fn project_file() -> String {
    let dependencies = [
        ("org.apache.kafka", "kafka_2.13", VERSION),
        ("org.apache.kafka", "kafka-tools", VERSION),
        ("org.slf4j", "slf4j-simple", LOGGING_VERSION),
    ];
    let dependencies = dependencies.map(|(group, name, version)| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>"
        )
    });
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>belfry</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>\
         <dependencies>{}</dependencies></project>",
        dependencies.concat()
    )
}

fn cache_directory() -> Result<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    Ok(cache.context("neither XDG_CACHE_HOME nor HOME is set, so there is no directory for Kafka")?.join("belfry"))
}
