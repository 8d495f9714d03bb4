//! The side of whoever asks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use timely::scheduling::SyncActivator;

use super::{Answered, LAST, PartOfReply, Question, Reply};
use crate::control::Command;
use crate::run::lock;

/// Called with a reply, on the thread of a worker: it must be quick. Dropped where none will come.
type Then = Box<dyn FnOnce(Reply) + Send>;

/// Asks a running job; may be kept and sent elsewhere. Process 0 is answered, others are not.
#[derive(Clone)]
pub struct Asker {
    shared: Arc<Shared>,
}

struct Shared {
    commands: mpsc::Sender<Command>,
    activator: Arc<Mutex<Option<SyncActivator>>>,
    next: AtomicU64,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    by_number: HashMap<u64, Then>,
    /// The run has ended; nobody answers.
    is_over: bool,
    /// What all workers said at the end.
    last: Option<PartOfReply>,
}

/// Where the replies go, on worker 0.
pub struct Replies {
    waiting: Arc<Mutex<Waiting>>,
}

impl Asker {
    /// An asker, and where its replies are to go.
    pub(crate) fn new(
        commands: mpsc::Sender<Command>,
        activator: Arc<Mutex<Option<SyncActivator>>>,
    ) -> (Self, Replies) {
        let waiting = Arc::<Mutex<Waiting>>::default();
        let shared = Shared { commands, activator, next: AtomicU64::new(LAST + 1), waiting: waiting.clone() };
        (Self { shared: Arc::new(shared) }, Replies { waiting })
    }

    /// Asks. `then` is called with the reply, on a worker's thread, or dropped where the job ends before; the
    /// number is for [`Asker::forget`].
    pub fn ask(&self, question: Question, then: impl FnOnce(Reply) + Send + 'static) -> u64 {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let mut waiting = lock(&self.shared.waiting);
        if !waiting.is_over {
            waiting.by_number.insert(number, Box::new(then));
            drop(waiting);
            self.command(Command::Ask(number, question));
        }
        number
    }

    /// Wants no reply any more.
    pub fn forget(&self, number: u64) {
        let forgotten = lock(&self.shared.waiting).by_number.remove(&number);
        drop(forgotten);
    }

    /// Asks, and waits.
    pub fn ask_within(&self, question: Question, timeout: Duration) -> Option<Reply> {
        let (reply, replied) = mpsc::channel();
        let number = self.ask(question, move |answer| {
            // Whoever asked may have gone.
            let _ = reply.send(answer);
        });
        let answer = replied.recv_timeout(timeout).ok();
        if answer.is_none() {
            self.forget(number);
        }
        answer
    }

    pub(crate) fn command(&self, command: Command) {
        // A run that has ended needs no commands.
        let _ = self.shared.commands.send(command);
        if let Some(activator) = &*lock(&self.shared.activator) {
            let _ = activator.activate();
        }
    }

    /// What all workers said at the end.
    pub(crate) fn last(&self) -> Option<PartOfReply> {
        lock(&self.shared.waiting).last.take()
    }
}

impl Replies {
    /// All workers that were asked have answered.
    pub(crate) fn give(&self, answer: Answered) {
        let Answered { number, part, .. } = answer;
        let mut waiting = lock(&self.waiting);
        if number == LAST {
            waiting.last = Some(part);
            return;
        }
        let then = waiting.by_number.remove(&number);
        drop(waiting);
        // Nobody waits any more where it took too long.
        if let Some(then) = then {
            then(part.reply());
        }
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        let mut waiting = lock(&self.waiting);
        waiting.is_over = true;
        let unanswered = std::mem::take(&mut waiting.by_number);
        drop(waiting);
        drop(unanswered);
    }
}
