//! Releases: activation, rollout, trial, replay, and redrives with them.

mod activations;
mod dead_letters;
mod replay;
mod rollout;
mod trial;
