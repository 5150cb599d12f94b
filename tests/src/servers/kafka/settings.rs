use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;

use super::Certificates;

/// The ports of a Kafka on 127.0.0.1.
#[derive(Clone, Debug)]
pub(super) struct Ports {
    pub(super) clients: u16,
    /// The port advertised to clients instead.
    pub(super) advertised: Option<u16>,
    pub(super) direct: u16,
    pub(super) controller: u16,
}

impl Ports {
    /// Returns whether clients can connect.
    pub(super) fn are_open(&self) -> bool {
        [self.clients, self.direct].iter().all(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok())
    }
}

/// Returns the text of `server.properties`. Later lines override earlier ones.
pub(super) fn server_properties(
    directory: &Path,
    ports: &Ports,
    certificates: Option<&Certificates>,
    settings: &[(&str, &str)],
) -> String {
    let Ports { clients, advertised, direct, controller } = ports;
    let advertised = advertised.unwrap_or(*clients);
    let security = if certificates.is_some() { "SASL_SSL" } else { "PLAINTEXT" };
    let listen = |clients: u16| format!("CLIENTS://127.0.0.1:{clients},DIRECT://127.0.0.1:{direct}");

    let mut lines = vec![
        "process.roles=broker,controller".to_owned(),
        "node.id=1".to_owned(),
        format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
        "controller.listener.names=CONTROLLER".to_owned(),
        format!("listeners={},CONTROLLER://127.0.0.1:{controller}", listen(*clients)),
        format!("advertised.listeners={}", listen(advertised)),
        format!("listener.security.protocol.map=CLIENTS:{security},DIRECT:PLAINTEXT,CONTROLLER:PLAINTEXT"),
        // A proxy must not disturb the broker's traffic with itself.
        "inter.broker.listener.name=DIRECT".to_owned(),
        format!("log.dirs={}", directory.join("data").display()),
        "auto.create.topics.enable=false".to_owned(),
        "default.replication.factor=1".to_owned(),
        "offsets.topic.replication.factor=1".to_owned(),
        "offsets.topic.num.partitions=4".to_owned(),
        "transaction.state.log.replication.factor=1".to_owned(),
        "transaction.state.log.min.isr=1".to_owned(),
        "transaction.state.log.num.partitions=4".to_owned(),
        "share.coordinator.state.topic.replication.factor=1".to_owned(),
        "share.coordinator.state.topic.min.isr=1".to_owned(),
        "group.initial.rebalance.delay.ms=0".to_owned(),
        // A broker that was killed is not admitted again before its session has ended, by default after nine seconds.
        "broker.heartbeat.interval.ms=500".to_owned(),
        "broker.session.timeout.ms=3000".to_owned(),
        // Tests do not wait six seconds, the default minimum, until a member counts as lost.
        "group.min.session.timeout.ms=1000".to_owned(),
    ];
    if let Some(certificates) = certificates {
        let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
        lines.extend([
            "listener.name.clients.ssl.keystore.type=PEM".to_owned(),
            format!("listener.name.clients.ssl.keystore.location={}", certificates.key_and_certificate().display()),
            "listener.name.clients.sasl.enabled.mechanisms=SCRAM-SHA-512".to_owned(),
            format!("listener.name.clients.scram-sha-512.sasl.jaas.config={scram}"),
        ]);
    }
    lines.extend(settings.iter().map(|(name, value)| format!("{name}={value}")));
    lines.join("\n") + "\n"
}
