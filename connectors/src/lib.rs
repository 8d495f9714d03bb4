//! How bytes come and go. Connectors move raw messages and Arrow batches; they know nothing of
//! twins, of timely or of jobs.
//!
//! ```text
//!   mqtt::source --.                                             .--> mqtt::sink
//!   file::source --+-> lanes: queue of Intake --> the engine --> +--> file::sink, webhook, feed   queue of MessageBatch
//!                                                                '--> archive      queue of ArchiveBatch
//!
//!   journal, segments ──► disk ◄── store ◄── parts   what must survive, and the store of checkpoints
//! ```
//! Every connector is one thread of its own behind a queue that is bounded by bytes, so that what is
//! slow slows what feeds it and nothing is dropped; what has something to do now and then only has its thread
//! only then (`on_call`). `clock` is the port to the wall clock, `folder`
//! the data folder that one run owns.

pub mod alarm;
pub mod archive;
pub mod clock;
pub mod disk;
pub mod failpoint;
pub mod feed;
pub mod file;
pub mod folder;
pub mod format;
pub mod function;
pub mod journal;
pub mod kafka;
pub mod memory;
pub mod message;
pub mod mqtt;
pub mod on_call;
pub mod outbox;
pub mod parts;
pub mod place;
pub mod queue;
pub mod secret;
pub mod sink;
pub mod source;
pub mod store;
pub mod webhook;

mod endpoint;
mod lanes;
mod reminder;
mod thread;
