//! Slow, silent and encrypted connections.

mod encrypted;
mod silent_network;
mod slow_clients;
