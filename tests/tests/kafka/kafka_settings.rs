//! The settings that `[kafka.properties]` accepts and rejects.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use belfry_service::config::load;
use belfry_service::kafka::{Client, KafkaConfigError};
use belfry_tests::{BelfryProcess, belfry};
use tempfile::TempDir;

/// Settings that would break a guarantee, each with a value that librdkafka would accept.
const PROMISED: [(&str, &str); 27] = [
    ("bootstrap.servers", "elsewhere:9092"),
    ("metadata.broker.list", "elsewhere:9092"),
    ("group.id", "other"),
    ("group.instance.id", "other"),
    ("enable.idempotence", "false"),
    ("acks", "0"),
    ("request.required.acks", "1"),
    ("max.in.flight", "1000"),
    ("max.in.flight.requests.per.connection", "1000"),
    ("retries", "0"),
    ("message.send.max.retries", "0"),
    ("message.timeout.ms", "1000"),
    ("delivery.timeout.ms", "1000"),
    ("partitioner", "random"),
    ("enable.gapless.guarantee", "false"),
    ("queuing.strategy", "lifo"),
    ("transactional.id", "other"),
    ("delivery.report.only.error", "true"),
    ("enable.auto.commit", "true"),
    ("auto.commit.enable", "true"),
    ("enable.auto.offset.store", "true"),
    ("enable.partition.eof", "true"),
    ("auto.offset.reset", "latest"),
    ("isolation.level", "read_uncommitted"),
    ("partition.assignment.strategy", "range"),
    ("group.protocol", "consumer"),
    ("allow.auto.create.topics", "true"),
];

fn client(directory: &Path, properties: &str) -> Result<Client, KafkaConfigError> {
    let file = directory.join("belfry.toml");
    std::fs::write(&file, format!("[kafka]\nbrokers = \"127.0.0.1:9\"\n[kafka.properties]\n{properties}\n"))
        .expect("cannot write the file");
    let loaded = load(Some(&file), &[]).expect("valid configuration");
    Client::new(&loaded.config.kafka, None)
}

#[test]
fn what_promises_depend_on_is_refused_by_name_and_documented() -> Result<()> {
    let directory = TempDir::new()?;
    let documented = include_str!("../../../docs/kafka.md");
    let value = directory.path().join("value");
    for (name, given) in PROMISED {
        std::fs::write(&value, given)?;
        let written = [
            format!("\"{name}\" = \"{given}\""),
            format!("{name} = \"{given}\""),
            format!("\"{name}_file\" = \"{}\"", value.display()),
        ];
        for written in written {
            let error = client(directory.path(), &written).err().with_context(|| format!("{written} is accepted"))?;
            ensure!(matches!(error, KafkaConfigError::Fixed { .. }), "{written}: {error}");
            ensure!(error.to_string().contains(name), "{written}: {error}");
        }
        ensure!(documented.contains(&format!("`{name}`")), "{name} is missing in docs/kafka.md");
    }
    client(directory.path(), "\"session.timeout.ms\" = 20000\nlinger.ms = 5")?;
    Ok(())
}

#[test]
fn a_value_is_never_quoted_where_it_may_be_secret() -> Result<()> {
    const CANARY: &str = "canary-17c3";
    let directory = TempDir::new()?;
    let file = directory.path().join("secret");
    std::fs::write(&file, format!("{CANARY}\n"))?;
    let file = file.display();
    // Misspelled names, an invalid value, and an invalid key.
    let written = [
        format!("\"sasl.pasword\" = \"{CANARY}\""),
        format!("\"sasl.pasword_file\" = \"{file}\""),
        format!("\"security.protocol_file\" = \"{file}\""),
        format!("\"security.protocol\" = \"SSL\"\n\"ssl.key.pem\" = \"{CANARY}\""),
    ];
    for written in written {
        let error = client(directory.path(), &written).err().with_context(|| format!("{written} is accepted"))?;
        let message = format!("{error} {error:?}");
        ensure!(!message.contains(CANARY), "{message}");
    }
    let error = client(directory.path(), "\"security.protocol\" = \"TLS\"").err().context("TLS is accepted")?;
    ensure!(error.to_string().contains("security.protocol") && error.to_string().contains("TLS"), "{error}");
    Ok(())
}

#[tokio::test]
async fn settings_come_from_variables_and_flags_as_well() -> Result<()> {
    let directory = TempDir::new()?;
    let flags = |name: &str, value: &str| {
        let set = [("kafka.brokers", "127.0.0.1:9"), (name, value)];
        set.map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let loaded = load(None, &flags("kafka.properties.linger.ms", "7"))?;
    let client = Client::new(&loaded.config.kafka, None)?;
    ensure!(client.base().get("linger.ms") == Some("7"), "{:?}", loaded.config.kafka);

    // Flags override the file, however the name is written in the file.
    let file = directory.path().join("belfry.toml");
    std::fs::write(&file, "[kafka]\nbrokers = \"127.0.0.1:9\"\n[kafka.properties]\n\"acks\" = 1\n\"linger.ms\" = 3\n")?;
    let loaded = load(Some(&file), &flags("kafka.properties.linger.ms", "7"))?;
    let linger = loaded.config.kafka.properties.get("linger.ms").map(ToString::to_string);
    ensure!(linger.as_deref() == Some("7"), "{:?}", loaded.config.kafka);

    let settings = [
        ("kafka.brokers", "127.0.0.1:9".to_owned()),
        ("BELFRY__KAFKA__PROPERTIES__QUEUING__STRATEGY", "lifo".to_owned()),
    ];
    let empty = TempDir::new()?;
    let refused = BelfryProcess::start_with(empty.path(), &settings).await.err().context("the service started")?;
    let message = format!("{refused:#}");
    // Commands that do not use Kafka need not check its settings.
    ensure!(message.contains("exit status: 78") && message.contains("queuing.strategy"), "{message}");
    let checked = belfry(&["topics", "check", "--config", &file.display().to_string()]).await?;
    ensure!(checked.code == Some(78) && checked.stderr.contains("acks"), "{checked:?}");
    Ok(())
}
