//! Checks of Redis. It carries only hints, so without it everything continues, a little slower.

use std::time::{Duration, Instant};

use belfry_service::config::{Config, without_secrets};
use redis::{AsyncConnectionConfig, Client, TlsCertificates};

use super::check::Check;

/// The time limit to connect, and of each command.
const PATIENCE: Duration = Duration::from_secs(5);
/// A hint that takes longer than this is no faster than polling the database.
const SLOW: Duration = Duration::from_millis(25);

pub(super) async fn check(config: &Config) -> Vec<Check> {
    let address = match config.redis.address() {
        Ok(Some(address)) => address,
        Ok(None) => {
            return vec![Check::ok(
                "redis",
                "not configured: replicas poll the database instead, up to a second later",
            )];
        }
        Err(error) => return vec![Check::failed("redis", error.to_string(), "fix redis.url_file")],
    };
    match look(config, &address).await {
        Ok(checks) => checks,
        Err(error) => vec![Check::failed(
            "redis",
            format!("{} does not answer: {error}", without_secrets(&address)),
            remedy(&error),
        )],
    }
}

fn remedy(error: &str) -> &'static str {
    if ["AuthenticationFailed", "authentication failed", "WRONGPASS", "NOAUTH"].iter().any(|word| error.contains(word))
    {
        return "check the user and password in redis.url or redis.url_file; until then, replicas wake up to a second later";
    }
    if error.contains("certificate") {
        return "check redis.ca_file, and that redis.url has the host name in the server's certificate";
    }
    "start it, or fix redis.url; until then, replicas wake up to a second later"
}

async fn look(config: &Config, address: &str) -> Result<Vec<Check>, String> {
    let client = match &config.redis.ca_file {
        None => Client::open(address).map_err(|error| error.to_string())?,
        Some(path) => {
            let certificate = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
            let certificates = TlsCertificates { client_tls: None, root_cert: Some(certificate) };
            Client::build_with_tls(address, certificates).map_err(|error| error.to_string())?
        }
    };
    let patient =
        AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
    let connected = client.get_multiplexed_async_connection_with_config(&patient).await;
    let mut connection = connected.map_err(|error| error.to_string())?;
    let mut times = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        redis::cmd("PING").query_async::<()>(&mut connection).await.map_err(|error| error.to_string())?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let median = times[times.len() / 2];
    let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await.unwrap_or_default();
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("unknown");
    let finding = format!("version {version}, PING takes {:.1} ms", median.as_secs_f64() * 1000.0);
    Ok(vec![if median > SLOW {
        Check::warning(
            "redis",
            finding,
            "reduce the latency to it; waking replicas through it is no faster than polling",
        )
    } else {
        Check::ok("redis", finding)
    }])
}
