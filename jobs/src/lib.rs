//! What a user submits: the definition file, its checks, the plan, and the command line that runs it.
//!
//! ```text
//!  JOB.yaml ─ document ─► definition ─ checks ─► job ─ plan ─► dataflows
//!                 └────────────┴──────────┴──► findings (line, column, what to write instead)
//!  cli: demo, init, validate, run, simulate      server: /metrics, /health      fleet, simulation: devices
//! ```

mod checks;
pub mod cli;
pub mod definition;
pub mod document;
pub mod findings;
pub mod fleet;
mod fleet_bus;
pub mod job;
pub mod live;
mod plan;
pub mod screen;
pub mod server;
pub mod service;
mod session;
pub mod signals;
pub mod simulation;
pub mod summary;
