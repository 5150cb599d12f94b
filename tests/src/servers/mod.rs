//! Real servers — PostgreSQL, Kafka, Redis — for tests and for manual use (`make services`), and faults on the way to
//! them.
//!
//! Each is started from the machine's installed programs, keeps all its files in its own directory, and listens on
//! 127.0.0.1 only. A test's servers end when the test's process ends, for whatever reason. Processes are identified by
//! `/proc`, so this needs Linux.

mod certificates;
mod fault_proxy;
mod guarded;
mod kafka;
mod ports;
mod postgres;
mod process_id;
mod programs;
mod redis;
pub mod services;
mod shared_directory;
pub(crate) mod watchdog;

pub use certificates::Certificates;
pub use fault_proxy::{Direction, FaultProxy};
pub use guarded::{Guarded, Lifetime};
pub use kafka::{Kafka, KafkaOptions, KafkaRecord, SCRAM_PASSWORD, SCRAM_USER, TopicReader, shared_kafka};
pub use postgres::{Database, Postgres, PostgresOptions, shared_postgres};
pub use process_id::{ProcessId, Signal};
pub use redis::{Redis, RedisOptions, shared_redis};
