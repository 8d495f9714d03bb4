//! The whole-engine suite: the program as its users run it.
//!
//! - `cases`: recorded input in, archive and listeners out, the same on every layout
//! - `generated`: the same for a larger fleet, drawn from a seed
//! - `mqtt`: against a real mosquitto, its outages included
//! - `command`: the command line: exit codes, messages, metrics, summaries
//! - `tidy`: what ARCHITECTURE promises of the sources

mod cases;
mod command;
mod generated;
mod harness;
mod mqtt;
mod tidy;
