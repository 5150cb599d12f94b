//! The commands, one module each.

pub mod audit;
pub mod audit_log;
pub mod compare;
pub mod compile_component;
pub mod completions;
pub mod config;
pub mod dead_letter;
pub mod demo;
pub mod doctor;
pub mod explain;
pub mod migrate;
pub mod parked;
pub mod pause;
pub mod plugin;
pub mod position;
pub mod publish;
pub mod release;
pub mod replay;
pub mod serve;
pub mod sink;
pub mod tail;
pub mod token;
pub mod topics;
pub mod trial;
