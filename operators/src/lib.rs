//! What happens to a twin: the five physical-to-digital steps as plain structs and functions.
//!
//! ```text
//!  raw message ─ decode ─► EventBatch ─ shadowing ─► S' ─ functions ─► S'' ─ handler ─► S ─ digital ─► listeners, archive
//!               step 1                   step 2           step 3            step 4           step 5
//! ```
//!
//! Nothing here reads a clock, does I/O, or knows of workers: time and input are passed in, so the
//! same input gives the same output and every rule of the semantics is tested by a table, in
//! milliseconds. The `dataflows` crate wraps these steps into operators of a dataflow.

pub mod adaptation;
pub mod batch;
pub mod bus;
pub mod decode;
pub mod digital;
pub mod entanglement;
#[cfg(test)]
mod fixture;
pub mod functions;
pub mod handler;
pub mod id;
pub mod layout;
pub mod life_cycle;
pub mod model;
mod packed;
pub mod problem;
pub mod roster;
pub mod shadowing;
pub mod snapshot;
pub mod steps;
pub mod time;
pub mod trial;
pub mod twin;
pub mod view;
pub mod waiting;
