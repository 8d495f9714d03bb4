//! A source and a sink without a world behind them: for benches, and for tests that need no broker.
//!
//! They are the same handles, threads and queues as those of the real connectors, so what is
//! measured through them is the engine as it runs.

use crate::lanes::Lanes;
use crate::message::{Intake, MessageBatch, RawMessage};
use crate::place::Place;
use crate::sink::SinkHandle;
use crate::source::{LaneOf, SourceHandle, SourceStats};
use crate::thread::{StopSignal, Worker, unpark_current};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// Bytes that a lane holds: little, as this source is always faster than the engine, and what waits
/// would only push the engine's data out of the caches.
const LANE_BYTES_MAX: usize = 1 << 20;
/// Bytes that a sink holds.
const SINK_BYTES_MAX: usize = 16 << 20;

/// What a source hands over at once.
#[derive(Debug)]
pub enum Handed {
    /// Messages.
    Messages(Vec<RawMessage>),
    /// That it is lost, or back.
    News(Intake),
}

/// Starts a source that yields the messages of `batches`, then ends. A batch is handed over at once,
/// as what a real source takes from its socket. Arrivals and topics are taken as they are.
pub fn source(
    name: &str,
    lanes: usize,
    lane_of: LaneOf,
    batches: impl Iterator<Item = Vec<RawMessage>> + Send + 'static,
) -> io::Result<SourceHandle> {
    source_from(name, lanes, lane_of, 0, batches, |_| {})
}

/// The same for a source that can be read again: `batches` are those behind the first `begin` messages.
/// `committed` is told how many messages the engine has let go of.
pub fn source_from(
    name: &str,
    lanes: usize,
    lane_of: LaneOf,
    begin: u64,
    batches: impl Iterator<Item = Vec<RawMessage>> + Send + 'static,
    committed: impl FnMut(u64) + Send + 'static,
) -> io::Result<SourceHandle> {
    source_with_news(name, lanes, lane_of, begin, batches.map(Handed::Messages), committed)
}

/// The same for a source that may be lost, and come back.
pub fn source_with_news(
    name: &str,
    lanes: usize,
    lane_of: LaneOf,
    begin: u64,
    batches: impl Iterator<Item = Handed> + Send + 'static,
    mut committed: impl FnMut(u64) + Send + 'static,
) -> io::Result<SourceHandle> {
    let (mut lanes, receivers) = Lanes::new(lanes, LANE_BYTES_MAX, lane_of);
    let (stats, stop) = (Arc::new(SourceStats::default()), Arc::new(StopSignal::default()));
    let (counted, asked) = (stats.clone(), stop.clone());
    let worker = Worker::spawn(&format!("source-{name}"), move || {
        let waker = unpark_current();
        lanes.set_waker(&waker);
        asked.set_waker(waker);
        counted.set_connected(true);
        let (mut newest_us, mut taken) = (None, begin);
        for batch in batches {
            if let Some(told) = asked.take_committed() {
                committed(told.released.number());
            }
            let messages = match batch {
                Handed::Messages(messages) => messages,
                Handed::News(news) => {
                    lanes.push_first(news);
                    Vec::new()
                }
            };
            for message in messages {
                newest_us = newest_us.max(Some(message.arrived_at_us));
                taken += 1;
                counted.add(1, message.payload.len() as u64);
                lanes.push(message);
            }
            while lanes.flush().is_ok() && !asked.is_asked() {
                if let Some(number) = asked.take_boundary() {
                    lanes.push_all(&Intake::Boundary { number, next: Place::at(taken) });
                } else if lanes.are_blocked() {
                    std::thread::park();
                } else {
                    break;
                }
            }
            if asked.is_asked() {
                break;
            }
        }
        lanes.push_all(&Intake::End { newest_us, next: Place::at(taken) });
        // The engine may have gone before the end: then nobody wants it.
        let _ = lanes.flush_over_bound();
    })?;
    Ok(SourceHandle::new(name, receivers, stats, stop, worker))
}

/// Starts a source of recorded input: `messages` in the order of their arrival, and then nothing up to `to_us`. Time
/// stands there until `held` has lost its sender, and then it ends.
pub fn recorded(
    name: &str,
    lanes: usize,
    lane_of: LaneOf,
    messages: Vec<RawMessage>,
    to_us: i64,
    held: Receiver<()>,
) -> io::Result<SourceHandle> {
    let (mut lanes, receivers) = Lanes::new(lanes, LANE_BYTES_MAX, lane_of);
    let (stats, stop) = (Arc::new(SourceStats::default()), Arc::new(StopSignal::default()));
    let counted = stats.clone();
    let worker = Worker::spawn(&format!("source-{name}"), move || {
        lanes.set_waker(&unpark_current());
        counted.set_connected(true);
        let next = Place::at(messages.len() as u64);
        for message in messages {
            counted.add(1, message.payload.len() as u64);
            lanes.push(message);
        }
        // What arrives at `to_us` itself has come before the time behind it.
        lanes.push_all(&Intake::Advance { to_us: to_us + 1 });
        // It is recorded input, which nobody stops half-way; the engine may have gone.
        let _ = lanes.flush_over_bound();
        let _ = held.recv();
        lanes.push_all(&Intake::End { newest_us: Some(to_us), next });
        let _ = lanes.flush_over_bound();
    })?;
    Ok(SourceHandle::new(name, receivers, stats, stop, worker))
}

/// Starts a sink that gives every batch to `each`.
pub fn sink(name: &str, mut each: impl FnMut(&MessageBatch) + Send + 'static) -> io::Result<SinkHandle> {
    SinkHandle::start(name, SINK_BYTES_MAX, move |work| {
        work.stats.set_connected(true);
        while let Some(batch) = work.queue.recv() {
            use crate::queue::Weigh;
            each(&batch);
            work.stats.add_published(batch.len() as u64, batch.bytes.len() as u64);
            work.stats.batch_done(batch.weight());
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Received;
    use bytes::Bytes;
    use std::sync::mpsc;
    use std::time::Duration;

    fn message(position: u64) -> RawMessage {
        RawMessage {
            position,
            arrived_at_us: position as i64,
            topic: Bytes::from(format!("t/{}", position % 3)),
            payload: Bytes::from_static(b"1"),
            ..RawMessage::default()
        }
    }

    #[test]
    fn all_messages_come_out_in_order_and_then_the_end() {
        let lane_of: LaneOf = Arc::new(|topic| usize::from(topic.ends_with(b"0")));
        let batches = (0..100).map(|batch| (1..=10).map(|number| message(batch * 10 + number)).collect());
        let source = source("memory", 2, lane_of, batches).expect("it starts");
        let mut count = 0;
        for lane in &source.lanes {
            let mut last = 0;
            loop {
                match lane.recv_timeout(Duration::from_secs(60)) {
                    Received::Item(Intake::Message(message)) => {
                        assert!(message.position > last);
                        last = message.position;
                        count += 1;
                    }
                    Received::Item(other) => {
                        assert_eq!(other, Intake::End { newest_us: Some(1_000), next: Place::at(1_000) });
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(count, 1_000);
    }

    #[test]
    fn a_sink_gives_every_batch() {
        let (sender, received) = mpsc::channel();
        let each = move |batch: &MessageBatch| {
            sender.send(batch.len()).expect("the test waits");
        };
        let sink = sink("memory", each).expect("it starts");
        let mut batch = MessageBatch::default();
        assert!(batch.push("t", b"1", false));
        sink.offer(batch).expect("there is room");
        assert_eq!(received.recv_timeout(Duration::from_secs(60)), Ok(1));
        assert_eq!(sink.close(Duration::from_secs(60)).unpublished, 0);
    }
}
