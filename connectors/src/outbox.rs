//! Messages that go out exactly once (rule 7.3): they are kept in an object of the checkpoint, and sent after
//! it holds, in one transaction that says so.
//!
//! ```text
//!   batches ─► OutboxWriter ─► object in the store ─► manifest lists it ─► sender (thread of the bus)
//!                                                                          │ transaction: messages, marker
//!   restart: manifest lists those that were not known to be sent ─────────►│ marker read: sent or not?
//! ```
//! An object is one of `parts`, of which a bin is a stretch of messages and a record is a message: key,
//! then revision u64, length of the topic u16, topic, payload.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use tracing::warn;

use crate::format::FormatError;
use crate::message::{MessageBatch, Outgoing};
use crate::parts::{PartError, PartInfo, PartReader, PartWriter, push_record, records};
use crate::queue::Waker;
use crate::sink::{Closed, SinkStats};
use crate::store::Store;
use crate::thread::{StopSignal, Worker};

/// Bytes of messages after which a stretch is written.
const STRETCH_BYTES: usize = 1 << 20;
/// Revision, and length of the topic.
const RECORD_HEAD_BYTES: usize = 10;
/// How long a sender that was told to stop may take to do so.
const JOIN_MAX: Duration = Duration::from_secs(5);

/// Which outbox: that of a process and a checkpoint. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutboxId {
    /// Generation of the run.
    pub generation: u64,
    /// Number of the checkpoint in it.
    pub number: u64,
}

/// An outbox that an earlier run may not have sent.
#[derive(Clone, Debug)]
pub struct Unsent {
    /// Number of the process that it was of.
    pub partition: u32,
    /// Which it is.
    pub id: OutboxId,
    /// Its objects, one a worker.
    pub parts: Vec<PartInfo>,
}

/// Writes the messages of one worker for one checkpoint.
pub struct OutboxWriter {
    writer: PartWriter,
    stretch: Vec<u8>,
    messages: u32,
    stretches: u32,
}

impl OutboxWriter {
    /// Begins an object of this name.
    pub fn begin(store: &dyn Store, name: &str) -> io::Result<Self> {
        let writer = PartWriter::begin(store, name)?;
        Ok(Self { writer, stretch: Vec::with_capacity(STRETCH_BYTES), messages: 0, stretches: 0 })
    }

    /// Adds messages, in their order.
    pub fn add(&mut self, batch: &MessageBatch) -> io::Result<()> {
        for message in batch.iter() {
            // The key is a twin's id, which is UTF-8 and as short as an id of a record may be.
            let key = std::str::from_utf8(message.key).unwrap_or_default();
            push_record(&mut self.stretch, key, |out| {
                out.extend_from_slice(&message.revision.to_le_bytes());
                out.extend_from_slice(&(message.topic.len() as u16).to_le_bytes());
                out.extend_from_slice(message.topic.as_bytes());
                out.extend_from_slice(message.payload);
            });
            self.messages += 1;
            if self.stretch.len() >= STRETCH_BYTES {
                self.write()?;
            }
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let number = u16::try_from(self.stretches)
            .map_err(|_| io::Error::other("an outbox is larger than 64 GB; checkpoint more often"))?;
        self.writer.block(number, self.messages, &self.stretch)?;
        self.stretch.clear();
        (self.messages, self.stretches) = (0, self.stretches + 1);
        Ok(())
    }

    /// Completes the object, which is durable when this returns.
    pub fn finish(mut self) -> io::Result<PartInfo> {
        self.write()?;
        self.writer.finish()
    }
}

/// Reads an object, and gives its messages in the order in which they were added.
pub fn read<E: From<PartError>>(
    store: &dyn Store,
    info: &PartInfo,
    mut give: impl FnMut(Outgoing<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let reader = PartReader::open(store, info)?;
    let damaged = |error| PartError::Format { name: info.name.clone(), source: error };
    for bin in reader.bins().collect::<Vec<u16>>() {
        let block = reader.block(bin)?.unwrap_or_default();
        for record in records(&block) {
            let (key, bytes) = record.map_err(damaged)?;
            give(message(key, bytes).map_err(damaged)?)?;
        }
    }
    Ok(())
}

fn message<'a>(key: &'a str, bytes: &'a [u8]) -> Result<Outgoing<'a>, FormatError> {
    let split = bytes.split_first_chunk::<RECORD_HEAD_BYTES>().and_then(|(head, rest)| {
        let (revision, topic_bytes) = head.split_at(8);
        let topic_bytes = u16::from_le_bytes(topic_bytes.try_into().ok()?);
        let (topic, payload) = rest.split_at_checked(usize::from(topic_bytes))?;
        Some((u64::from_le_bytes(revision.try_into().ok()?), std::str::from_utf8(topic).ok()?, payload))
    });
    let cut = || FormatError::Damaged("a message of an outbox is cut off".into());
    let (revision, topic, payload) = split.ok_or_else(cut)?;
    Ok(Outgoing { topic, key: key.as_bytes(), payload, retain: false, revision })
}

/// What a sender is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// An object of the outbox of this checkpoint is durable.
    Prepared(u64, PartInfo),
    /// The checkpoint holds: its outbox may be sent.
    Committed(u64),
}

/// What sender and handle share.
#[derive(Default)]
pub(crate) struct Progress {
    /// 0 until what earlier runs left is settled; then one more than the last number that was sent.
    sent: AtomicU64,
    wakers: Mutex<Vec<Waker>>,
}

impl Progress {
    /// All up to this checkpoint is sent; at 0, what earlier runs left.
    pub(crate) fn sent(&self, number: u64) {
        self.sent.store(number + 1, Ordering::Release);
        let wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        wakers.iter().for_each(|waker| waker());
    }
}

/// What the thread of a sender works with.
pub(crate) struct SenderWork {
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) stats: Arc<SinkStats>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) stop: Arc<StopSignal>,
}

/// A running sender, which all workers of a process share.
pub struct OutboxHandle {
    /// The sink's name in the job.
    pub name: String,
    /// Number of the process.
    pub process: usize,
    /// Numbers to show.
    pub stats: Arc<SinkStats>,
    bytes_max: usize,
    progress: Arc<Progress>,
    /// `None` once closed.
    orders: Option<mpsc::Sender<Order>>,
    stop: Arc<StopSignal>,
    worker: Worker,
}

impl OutboxHandle {
    /// Starts `body` on a thread of its own. It ends when all that was committed is sent and its orders are
    /// closed, or as soon as it can when it is asked to stop.
    pub(crate) fn start(
        name: &str,
        process: usize,
        bytes_max: usize,
        body: impl FnOnce(SenderWork) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, orders) = mpsc::channel();
        let (stats, progress) = (Arc::new(SinkStats::default()), Arc::new(Progress::default()));
        let stop = Arc::new(StopSignal::default());
        let work =
            SenderWork { orders, stats: stats.clone(), progress: progress.clone(), stop: stop.clone() };
        let worker = Worker::spawn(&format!("outbox-{name}"), move || body(work))?;
        let name = name.to_owned();
        Ok(Self { name, process, stats, bytes_max, progress, orders: Some(sender), stop, worker })
    }

    /// Whether more may be put into the outbox: what is not sent yet has its bound on disk.
    pub fn admits(&self) -> bool {
        self.stats.in_flight_bytes() < self.bytes_max
    }

    /// Messages were put into the outbox.
    pub fn taken(&self, batch: &MessageBatch) {
        self.stats.offer(batch.len() as u64, batch.bytes.len());
    }

    /// Messages that were counted as taken were not.
    pub fn refused(&self, batch: &MessageBatch) {
        self.stats.take_back(batch.len() as u64, batch.bytes.len());
    }

    /// An object of the outbox of the checkpoint with this number is durable.
    pub fn prepared(&self, number: u64, part: PartInfo) {
        self.order(Order::Prepared(number, part));
    }

    /// The checkpoint with this number holds; after all its objects were told of. Returns at once.
    pub fn committed(&self, number: u64) {
        self.order(Order::Committed(number));
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // A sender that has ended has raised the alarm.
            let _ = orders.send(order);
        }
    }

    /// The number of the last checkpoint whose outbox is sent, with all before it; 0 where that is only what
    /// earlier runs left, none where it is not even that.
    pub fn sent(&self) -> Option<u64> {
        self.progress.sent.load(Ordering::Acquire).checked_sub(1)
    }

    /// Called when an outbox was sent.
    pub fn add_waker(&self, waker: Waker) {
        self.progress.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(waker);
    }

    /// Sends what is committed and waits for it, no longer than `timeout`. What is not sent then is sent by
    /// the next run.
    pub fn close(mut self, timeout: Duration) -> Closed {
        self.orders = None;
        if !self.worker.join_within(timeout) {
            warn!(sink = %self.name, "not all of the outbox is sent; the next run does it");
            self.end();
        }
        self.stats.closed()
    }

    fn end(&mut self) {
        self.orders = None;
        self.stop.ask();
        if !self.worker.join_within(JOIN_MAX) {
            warn!(sink = %self.name, "sender does not end; it is left behind");
        }
    }
}

impl Drop for OutboxHandle {
    fn drop(&mut self) {
        // `close` has waited already.
        if self.orders.is_some() {
            self.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;
    use crate::store::FolderStore;

    fn batches(count: usize, payload_bytes: usize) -> Vec<MessageBatch> {
        let batch = |first: usize| {
            let mut batch = MessageBatch::default();
            for number in first..first + 7 {
                let (key, payload) = (format!("p-{number}"), vec![b'a' + (number % 26) as u8; payload_bytes]);
                let revision = number as u64;
                assert!(batch.push_keyed(Outgoing {
                    topic: if number % 2 == 0 { "even" } else { "odd" },
                    key: key.as_bytes(),
                    payload: &payload,
                    retain: false,
                    revision,
                }));
            }
            batch
        };
        (0..count).map(|number| batch(number * 7)).collect()
    }

    fn written(store: &dyn Store, batches: &[MessageBatch]) -> PartInfo {
        let mut writer = OutboxWriter::begin(store, "parts/1").expect("begun");
        batches.iter().for_each(|batch| writer.add(batch).expect("added"));
        writer.finish().expect("finished")
    }

    #[test]
    fn messages_come_back_in_their_order() {
        for (count, payload_bytes) in [(1, 0), (1, 100), (40, 20_000)] {
            let store = FolderStore::new(Arc::new(SimDisk::new(1)), "s".into());
            let batches = batches(count, payload_bytes);
            let info = written(&store, &batches);
            let mut expected = batches.iter().flat_map(MessageBatch::iter);
            let checked = read(&store, &info, |message| {
                assert_eq!(Some(message), expected.next());
                Ok::<(), PartError>(())
            });
            checked.expect("it is whole");
            assert_eq!(expected.next(), None, "all of {count} batches");
            crate::parts::verify(&store, &info).expect("it is an object like others");
        }
    }

    /// It must be read for ever.
    #[test]
    fn the_bytes_of_a_message_are_these() {
        let store = FolderStore::new(Arc::new(SimDisk::new(1)), "s".into());
        let mut batch = MessageBatch::default();
        let (topic, key, payload, revision) = ("twins", &b"p-7"[..], &b"{}"[..], 0x0102);
        assert!(batch.push_keyed(Outgoing { topic, key, payload, retain: false, revision }));
        let info = written(&store, &[batch]);
        let block = PartReader::open(&store, &info).and_then(|reader| reader.block(0));
        let expected = b"\x03\0\x11\0\0\0p-7\x02\x01\0\0\0\0\0\0\x05\0twins{}";
        assert_eq!(block.expect("it is whole").as_deref(), Some(&expected[..]));
    }

    #[test]
    fn a_record_that_is_cut_is_damaged_and_no_panic() {
        for bytes in
            [&b""[..], &[0; 9], &[0, 0, 0, 0, 0, 0, 0, 0, 9, 0, b'x'], &[0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 255]]
        {
            assert!(message("k", bytes).is_err(), "{bytes:?}");
        }
    }
}
