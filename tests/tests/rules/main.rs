//! Rules in the sandbox: what is admitted, what they may do, and what they return.

mod admission;
mod cases;
mod determinism;
mod hostile_guests;
mod todays_rules;
mod unloadable;
