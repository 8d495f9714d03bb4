//! The whole-engine suite: the program as its users run it.
//!
//! - `cases`: recorded input in, archive and listeners out, the same on every layout
//! - `resumed`: the same for runs that are stopped half-way and go on on another layout
//! - `generated`: the same for a larger fleet, drawn from a seed
//! - `functions`: functions that are called outside: recorded, live, killed, failing
//! - `fuzzed`: what the fuzz target checks, over its corpus and what chance makes of it
//! - `mqtt`: against a real mosquitto
//! - `sparkplug`: edge nodes of Sparkplug on a real mosquitto
//! - `mqtt_in_full`: MQTT 5, QoS 2, websockets, shared topics, several brokers, and who takes a session over
//! - `kafka`: the real Kafka of this suite
//! - `kafka_jobs`: jobs on it, and what becomes of them when it is struck
//! - `page`: the page for the browser, in a real one
//! - `outages`: brokers and runs that are stopped or killed
//! - `crash`: killed at random moments and at every durable step, and nothing is lost
//! - `simulation`: the engine in process on a disk that fails and a clock that lies
//! - `server`: jobs that are applied and changed while devices speak, twins that are read and followed
//! - `command`: the command line: exit codes, data folders, metrics, summaries
//! - `definition`: job files that are wrong, with line and column
//! - `schema`: the schema of job files takes what `validate` takes, and refuses what it refuses
//! - `tidy`: what ARCHITECTURE promises of the sources
//! - `tools`: cases beside a job, and a job drafted from what devices say

mod cases;
mod command;
mod crash;
mod definition;
#[path = "../operators/src/decode/sparkplug/encoder.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod encoder;
mod functions;
mod fuzzed;
mod generated;
mod harness;
mod kafka;
mod kafka_jobs;
mod mqtt;
mod mqtt_in_full;
mod outages;
mod page;
mod resumed;
mod schema;
mod server;
mod simulation;
mod sparkplug;
mod tidy;
mod tools;
