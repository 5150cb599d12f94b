//! Kafka: the sink, topics, and the commands that examine them.

mod audit;
mod doctor;
mod foreign_consumers;
mod kafka_settings;
mod kafka_sink;
mod parked;
mod topics;
mod unpark;
