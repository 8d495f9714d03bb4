//! How it runs: the steps of a twin on timely dataflow, on workers of one process or many.
//!
//! Start with [`graph`], which reads as the list of the steps; [`twins`] is the operator that owns
//! the state, [`ingest`] and [`publish`] are the two ends, [`checkpoint`] keeps it all over crashes,
//! [`engine`] has the workers, which may run many jobs, [`run`] is one that runs, [`ask`] answers questions about
//! its twins. This is the only crate that knows timely, and it knows connectors only as handles: lanes to drain,
//! sinks to offer to.

pub mod ask;
pub mod bins;
mod board;
mod calls;
mod chain;
mod change;
pub mod checkpoint;
pub mod cluster;
pub mod control;
pub mod digital;
pub mod engine;
mod epoch;
pub mod graph;
mod handler;
pub mod ingest;
mod last_events;
mod look;
pub mod metrics;
pub mod plan;
pub mod publish;
mod pulse;
mod put_off;
pub mod quarantine;
pub mod quota;
pub mod router;
pub mod run;
mod shares;
pub mod spread;
mod stall;
mod start;
mod stash;
pub mod survey;
pub mod trials;
pub mod twins;
pub mod wheel;

pub use cluster::ClusterOptions;
pub use engine::Engine;
pub use metrics::Metrics;
pub use run::{Ending, Run, RunError, RunOptions, Stopper, Summary};
pub use shares::SEGMENTS;
pub use start::{CHECKPOINTS, start};
pub use survey::{Percentiles, Survey, Worst};
