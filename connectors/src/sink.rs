//! What every sink hands to the engine: a bounded place to offer batches to, numbers to show, and a
//! close that says what was not published.
//!
//! ```text
//!   offer --> [ queue, 16 MB ] --> thread of the sink --> published (MQTT at QoS 1: acknowledged)
//!     '--------------- in_flight_bytes --------------------'
//! ```

use crate::alarm::Alarm;
use crate::message::MessageBatch;
use crate::on_call::OnCall;
use crate::outbox::Unsent;
use crate::queue::{self, Receiver, Refused, Sender, Waker, Weigh};
use crate::store::Store;
use crate::thread::{StopSignal, Worker};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tracing::warn;

/// How long a sink that was told to stop may take to do so.
const JOIN_MAX: Duration = Duration::from_secs(2);

/// What a sink is started with.
#[derive(Clone)]
pub struct SinkSetup {
    /// Its name in the job.
    pub name: String,
    /// The job.
    pub job: String,
    /// Number of the process.
    pub process: usize,
    /// Generation of the run.
    pub generation: u64,
    /// Where the outboxes of a sink that publishes exactly once are.
    pub store: Arc<dyn Store>,
    /// Those that earlier runs may not have sent, oldest first.
    pub unsent: Vec<Unsent>,
    /// What is raised where it cannot go on.
    pub alarm: Arc<Alarm>,
}

/// A running sink. `close` it to publish what is queued; dropping it gives that up.
pub struct SinkHandle {
    /// The sink's name in the job.
    pub name: String,
    /// Numbers to show.
    pub stats: Arc<SinkStats>,
    /// `None` once closed.
    queue: Option<Sender<MessageBatch>>,
    stop: Arc<StopSignal>,
    hand: Hand,
}

/// Who does a sink's work.
enum Hand {
    Thread(Worker),
    OnCall(OnCall),
}

/// Numbers of a sink since it was started.
#[derive(Debug, Default)]
pub struct SinkStats {
    /// Messages offered and taken.
    pub offered: AtomicU64,
    /// Messages published: written, or acknowledged where the sink waits for that.
    pub published: AtomicU64,
    /// Bytes of topics and payloads published.
    pub bytes: AtomicU64,
    /// Messages that cannot be published ever (a bad topic, a line that is not written).
    pub failures: AtomicU64,
    /// How often another client took the session over, where the broker knows its clients by a name.
    pub takeovers: AtomicU64,
    /// Whether the listener's side can be reached now.
    pub connected: AtomicBool,
    in_flight_bytes: AtomicUsize,
}

/// What a closed sink leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Messages published since the start.
    pub published: u64,
    /// Messages offered and not published.
    pub unpublished: u64,
}

/// What a sink's thread works with.
pub(crate) struct SinkWork {
    pub(crate) name: String,
    pub(crate) queue: Receiver<MessageBatch>,
    pub(crate) stats: Arc<SinkStats>,
    pub(crate) stop: Arc<StopSignal>,
}

impl SinkHandle {
    /// Starts `body` on a thread of its own. It ends when its queue is closed and everything is
    /// published, or as soon as it can when it is asked to stop.
    pub(crate) fn start(
        name: &str,
        queue_bytes_max: usize,
        body: impl FnOnce(SinkWork) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = queue::bounded(queue_bytes_max);
        let stats = Arc::new(SinkStats::default());
        let stop = Arc::new(StopSignal::default());
        let work =
            SinkWork { name: name.to_owned(), queue: receiver, stats: stats.clone(), stop: stop.clone() };
        let worker = Worker::spawn(&format!("sink-{name}"), move || body(work))?;
        Ok(Self { name: name.to_owned(), stats, queue: Some(sender), stop, hand: Hand::Thread(worker) })
    }

    /// A sink that has a thread only while there is something in its queue, all of which `body` takes.
    pub(crate) fn on_call(
        name: &str,
        queue_bytes_max: usize,
        mut body: impl FnMut(&SinkWork) + Send + 'static,
    ) -> Self {
        let (sender, receiver) = queue::bounded(queue_bytes_max);
        let stats = Arc::new(SinkStats::default());
        let stop = Arc::new(StopSignal::default());
        let work = Arc::new(SinkWork {
            name: name.to_owned(),
            queue: receiver,
            stats: stats.clone(),
            stop: stop.clone(),
        });
        let done = work.clone();
        let on_call = OnCall::new(&format!("sink-{name}"), move || {
            body(&done);
            if done.queue.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        work.queue.set_waker(on_call.waker());
        Self { name: name.to_owned(), stats, queue: Some(sender), stop, hand: Hand::OnCall(on_call) }
    }

    /// Gives `batch` to the sink; never waits. Where it is refused as full, the waker is called
    /// when there is room.
    pub fn offer(&self, batch: MessageBatch) -> Result<(), Refused<MessageBatch>> {
        let Some(queue) = &self.queue else {
            return Err(Refused::Closed(batch));
        };
        let (messages, bytes) = (batch.len() as u64, batch.weight());
        // Counted before the sink's thread can see the batch and count it down again.
        self.stats.offer(messages, bytes);
        queue.try_send(batch).inspect_err(|_| {
            self.stats.take_back(messages, bytes);
        })
    }

    /// Called when room appears after a refusal, or when the sink's thread has ended.
    pub fn set_waker(&self, waker: Waker) {
        if let Some(queue) = &self.queue {
            queue.set_waker(waker);
        }
    }

    /// Offered and not yet published, in bytes; 0 says that everything offered is published.
    pub fn in_flight_bytes(&self) -> usize {
        self.stats.in_flight_bytes()
    }

    /// Publishes what is queued and waits for it, no longer than `timeout`.
    pub fn close(mut self, timeout: Duration) -> Closed {
        self.queue = None;
        if !self.hand.join_within(timeout) {
            warn!(sink = %self.name, in_flight_bytes = self.in_flight_bytes(), "sink closed before all was published");
            self.end();
        }
        self.stats.closed()
    }

    fn end(&mut self) {
        self.queue = None;
        self.stop.ask();
        if !self.hand.join_within(JOIN_MAX) {
            warn!(sink = %self.name, "sink does not end; it is left behind");
        }
    }
}

impl Hand {
    /// Waits for the end; `false` where it has not come after `timeout`.
    fn join_within(&mut self, timeout: Duration) -> bool {
        match self {
            Hand::Thread(worker) => worker.join_within(timeout),
            Hand::OnCall(on_call) => on_call.wait_over(timeout).is_some(),
        }
    }
}

impl Drop for SinkHandle {
    fn drop(&mut self) {
        // `close` has waited already.
        if self.queue.is_some() {
            self.end();
        }
    }
}

impl SinkStats {
    /// Offered and not yet published, in bytes.
    pub(crate) fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes.load(Ordering::Acquire)
    }

    pub(crate) fn offer(&self, messages: u64, bytes: usize) {
        self.in_flight_bytes.fetch_add(bytes, Ordering::AcqRel);
        self.offered.fetch_add(messages, Ordering::Relaxed);
    }

    pub(crate) fn take_back(&self, messages: u64, bytes: usize) {
        self.in_flight_bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.offered.fetch_sub(messages, Ordering::Relaxed);
    }

    /// What is left of what was offered.
    pub(crate) fn closed(&self) -> Closed {
        let published = self.published.load(Ordering::Acquire);
        let offered = self.offered.load(Ordering::Acquire);
        Closed { published, unpublished: offered.saturating_sub(published) }
    }

    pub(crate) fn add_published(&self, messages: u64, bytes: u64) {
        self.published.fetch_add(messages, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_failures(&self, messages: u64) {
        self.failures.fetch_add(messages, Ordering::Relaxed);
    }

    /// The whole of a batch is done with: published or failed.
    pub(crate) fn batch_done(&self, weight: usize) {
        self.in_flight_bytes.fetch_sub(weight, Ordering::AcqRel);
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }
}
