//! What a user submits.
mod checks;
pub mod definition;
pub mod document;
pub mod findings;
pub mod fleet;
pub mod job;
mod plan;
pub mod simulation;
