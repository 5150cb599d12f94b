use std::path::PathBuf;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::io::tcp::TcpSettings;
use ::redis::{
    AsyncConnectionConfig, ConnectionInfo, ErrorKind, IntoConnectionInfo, ProtocolVersion, PushInfo, RedisError,
    TlsCertificates,
};
use tokio::time::timeout;

use super::names::Names;
use crate::backoff::Backoff;
use crate::config::{Redis, SecretError};

/// Time limit to open a connection.
const CONNECT: Duration = Duration::from_secs(1);
/// The bounds of the backoff between attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Why a Redis client cannot be created. Never quotes the address, which may contain a password.
#[derive(Debug, thiserror::Error)]
pub enum RedisConfigError {
    /// The address is invalid.
    #[error("redis.url: not a Redis address; use redis://HOST:6379 or rediss://USER:PASSWORD@HOST:6380")]
    Address,
    /// Certificates for a connection that is not encrypted.
    #[error("redis.ca_file: the connection is not encrypted; use rediss:// in redis.url, or remove redis.ca_file")]
    NotEncrypted,
    /// The certificates cannot be read.
    #[error("redis.ca_file: cannot read {path}: {error}; check that it exists and belfry may read it")]
    Certificates {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// The file contains no certificates.
    #[error("redis.ca_file: {0} has no certificate in PEM format")]
    NoCertificate(PathBuf),
    /// A secret's file cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// Opens connections. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    client: ::redis::Client,
    names: Names,
}

impl Client {
    /// Creates a client from the configuration. `None` if no Redis is configured.
    pub(crate) fn new(settings: &Redis) -> Result<Option<Self>, RedisConfigError> {
        let Some(address) = settings.address()? else { return Ok(None) };
        let info = address.into_connection_info().map_err(|_| RedisConfigError::Address)?;
        // With version 3 of the protocol, a single connection both receives messages and answers PING.
        let protocol = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
        let info = info.set_redis_settings(protocol).set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = match &settings.ca_file {
            Some(path) => encrypted(info, path)?,
            None => ::redis::Client::open(info).map_err(|_| RedisConfigError::Address)?,
        };
        Ok(Some(Self { client, names: Names::new(&settings.prefix) }))
    }

    /// Returns the names of the deployment's channels and lists.
    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// Returns host and port.
    pub(crate) fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }

    /// Opens a connection. `answer` is the time limit for each response.
    pub(crate) async fn connect(&self, answer: Duration) -> Result<MultiplexedConnection, RedisError> {
        self.connect_with(config(answer)).await
    }

    /// Does the same, and passes published messages to `hear`, which must not block.
    pub(crate) async fn listen(
        &self,
        answer: Duration,
        hear: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<MultiplexedConnection, RedisError> {
        let hear = move |push| {
            hear(push);
            Ok::<(), ::redis::aio::SendError>(())
        };
        self.connect_with(config(answer).set_push_sender(hear)).await
    }

    async fn connect_with(&self, config: AsyncConnectionConfig) -> Result<MultiplexedConnection, RedisError> {
        // The limit includes the handshake: a Redis that hangs accepts connections and does not answer.
        match timeout(CONNECT, self.client.get_multiplexed_async_connection_with_config(&config)).await {
            Ok(connected) => connected,
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }
}

fn config(answer: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(answer))
}

fn encrypted(info: ConnectionInfo, authorities: &PathBuf) -> Result<::redis::Client, RedisConfigError> {
    if !matches!(info.addr(), ::redis::ConnectionAddr::TcpTls { .. }) {
        return Err(RedisConfigError::NotEncrypted);
    }
    let certificates = std::fs::read(authorities)
        .map_err(|error| RedisConfigError::Certificates { path: authorities.clone(), error })?;
    // A file without certificates would be accepted, and then no server would be trusted.
    if !certificates.windows(11).any(|word| word == b"CERTIFICATE") {
        return Err(RedisConfigError::NoCertificate(authorities.clone()));
    }
    ::redis::Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: Some(certificates) })
        .map_err(|_| RedisConfigError::NoCertificate(authorities.clone()))
}

/// Returns what to do about an error.
pub(super) fn remedy(error: &RedisError) -> &'static str {
    let message = error.to_string();
    match error.kind() {
        ErrorKind::AuthenticationFailed => "check user and password in redis.url or redis.url_file",
        _ if message.contains("WRONGPASS") || message.contains("NOAUTH") => {
            "check user and password in redis.url or redis.url_file"
        }
        _ if message.contains("certificate") => {
            "check redis.ca_file, and that redis.url has the name that is in the server's certificate"
        }
        _ => "start it, or fix redis.url",
    }
}

/// Returns the pauses between attempts to connect.
pub(super) const fn backoff() -> Backoff {
    Backoff::new(FIRST_PAUSE, LONGEST_PAUSE)
}
