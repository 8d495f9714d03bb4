//! What a user submits: the definition file, its checks, the plan, the command line and the server that run it.
//!
//! ```text
//!  JOB.yaml ─ document ─► definition ─ checks ─► job ─ plan ─► dataflows
//!                 └────────────┴──────────┴──► findings (line, column, what to write instead)
//!
//!  cli ── run, serve ──► service (keeps and changes jobs) ──► live (what runs, as others see it) ◄── server (HTTP)
//!   └── plan, apply, job, twin ── HTTP ──────────────────────────────────────────────────────────────► server
//!  foreign: models of types that stand in files of the Web of Things or DTDL
//!  fleet, simulation: devices that are not there
//! ```

pub mod cases;
mod causes;
mod checks;
pub mod cli;
pub mod definition;
pub mod document;
mod drafting;
pub mod explanation;
pub mod findings;
pub mod fleet;
mod fleet_bus;
mod foreign;
pub mod job;
mod listening;
pub mod live;
mod plan;
pub mod rehearsal;
pub mod roster;
pub mod schema;
pub mod screen;
pub mod server;
pub mod service;
mod session;
pub mod signals;
pub mod simulation;
mod sources;
pub mod summary;
mod wasm;
