//! The workers of a process, and the dataflows of jobs on them: installed and gone while others run.
//!
//! ```text
//!   install ── one lock, so in one order ──► mailbox of each worker ──► its part of the graph
//!   dataflow ends, or its job's alarm is raised ──► each worker tells the run that its part is gone
//! ```
//! What a job is made of, its twins and its ends of connectors, is this process's own, so it is handed over in
//! memory; processes agree on the order because a run of several processes has one job.

use std::any::Any;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::Thread;

use connectors::alarm::Alarm;
use connectors::archive::ArchiveHandle;
use connectors::queue::Waker;
use timely::communication::allocator::AllocatorBuilder;
use timely::scheduling::SyncActivator;
use timely::worker::Worker;
use tracing::error;

use crate::graph::{self, Parts};
use crate::quarantine::{self, Reporter};
use crate::run::{RunError, lock};

/// Workers that run the dataflows of jobs. Dropped, it waits until all of them have ended.
pub struct Engine {
    shape: Shape,
    ports: Mutex<Vec<Port>>,
    next_job: AtomicU32,
    /// How many alarms of jobs were raised.
    alarms: Arc<AtomicU64>,
    /// Under a lock for the sake of `Sync` only.
    guards: Mutex<Option<timely::communication::WorkerGuards<()>>>,
}

/// How many workers there are, and which of them are this process's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Number of this process.
    pub(crate) process: usize,
    /// How many processes there are.
    pub(crate) processes: usize,
    /// Workers of each.
    pub(crate) workers: usize,
}

impl Shape {
    /// Number of the first worker of this process.
    pub(crate) fn first_worker(self) -> usize {
        self.workers * self.process
    }

    /// Workers of all processes.
    pub(crate) fn peers(self) -> usize {
        self.workers * self.processes
    }
}

/// The way to a worker.
struct Port {
    orders: mpsc::Sender<Order>,
    thread: Thread,
}

enum Order {
    Install(Box<Installation>),
    End,
}

/// A worker's part of a job.
pub(crate) struct Installation {
    /// What it builds.
    pub(crate) parts: Parts,
    /// Where what wakes the job's first worker is kept.
    pub(crate) activator: Arc<Mutex<Option<SyncActivator>>>,
    /// Its archive, which is given back at the end.
    pub(crate) archive: Option<Arc<ArchiveHandle>>,
    /// Raised where the job cannot go on.
    pub(crate) alarm: Arc<Alarm>,
    /// Leaves a report where the worker panics.
    pub(crate) reporter: Arc<Reporter>,
    /// Told when the part is gone.
    pub(crate) end: EndPort,
}

/// Tells a run that a worker's part of it is gone.
#[derive(Clone)]
pub(crate) struct EndPort {
    pub(crate) count: Arc<AtomicUsize>,
    pub(crate) archives: mpsc::Sender<Option<Arc<ArchiveHandle>>>,
}

impl EndPort {
    fn tell(self, archive: Option<Arc<ArchiveHandle>>) {
        // Nobody waits any more where the run was let go.
        let _ = self.archives.send(archive);
        self.count.fetch_add(1, Ordering::Release);
    }
}

impl Engine {
    /// Workers of one process, without any job yet.
    pub fn start(workers: usize) -> Result<Self, RunError> {
        let workers = workers.max(1);
        let config = timely::CommunicationConfig::Process(workers);
        let (allocators, others) = config.try_build().map_err(RunError::Dataflow)?;
        Self::of(allocators, others, Shape { process: 0, processes: 1, workers })
    }

    /// Workers that reach those of other processes.
    pub(crate) fn of(
        allocators: Vec<AllocatorBuilder>,
        others: Box<dyn Any + Send>,
        shape: Shape,
    ) -> Result<Self, RunError> {
        let (orders, mailboxes): (Vec<_>, Vec<_>) =
            (0..shape.workers).map(|_| mpsc::channel()).map(|(to, of)| (to, Some(of))).unzip();
        let mailboxes = Mutex::new(mailboxes);
        let first_worker = shape.first_worker();
        let alarms = Arc::new(AtomicU64::new(0));
        let alarms_seen = alarms.clone();
        let config = timely::WorkerConfig::default();
        let guards = timely::execute::execute_from(allocators, others, config, move |worker| {
            let index = worker.index() - first_worker;
            let mailbox = lock(&mailboxes)[index].take().expect("each worker takes its mailbox, once");
            let mut jobs = Jobs::new(alarms_seen.clone());
            let work = || jobs.work(worker, &mailbox);
            // A worker that panicked has lost its twins: nothing sound can go on (rule 7.8).
            if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
                jobs.report(first_worker + index, &*panic);
                error!(worker = index, "worker panicked; the process ends");
                std::process::abort();
            }
        });
        let guards = guards.map_err(RunError::Dataflow)?;
        let threads = guards.guards().iter().map(|guard| guard.thread().clone());
        let ports = orders.into_iter().zip(threads).map(|(orders, thread)| Port { orders, thread });
        let ports = Mutex::new(ports.collect());
        Ok(Self { shape, ports, next_job: AtomicU32::new(0), alarms, guards: Mutex::new(Some(guards)) })
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// A number for a job's part of each worker.
    pub(crate) fn next_job(&self) -> u32 {
        self.next_job.fetch_add(1, Ordering::Relaxed)
    }

    /// Installs a job; one part a worker, in the order of the workers.
    pub(crate) fn install(&self, parts: Vec<Installation>) {
        let ports = lock(&self.ports);
        let alarm = parts.first().map(|part| part.alarm.clone());
        for (port, part) in ports.iter().zip(parts) {
            port.tell(Order::Install(Box::new(part)));
        }
        // Now that all workers know the job: they rest for long, and must hear of it at once.
        if let Some(alarm) = alarm {
            let threads: Vec<Thread> = ports.iter().map(|port| port.thread.clone()).collect();
            let alarms = self.alarms.clone();
            let wake: Waker = Arc::new(move || {
                alarms.fetch_add(1, Ordering::SeqCst);
                threads.iter().for_each(Thread::unpark);
            });
            alarm.set_waker(wake);
        }
    }
}

impl Port {
    fn tell(&self, order: Order) {
        // A worker ends after it was told to, and is told nothing after that.
        let _ = self.orders.send(order);
        self.thread.unpark();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        lock(&self.ports).iter().for_each(|port| port.tell(Order::End));
        if let Some(guards) = lock(&self.guards).take() {
            for ended in guards.join() {
                if let Err(reason) = ended {
                    error!(reason, "a worker did not end well");
                }
            }
        }
    }
}

/// The jobs of one worker.
struct Jobs {
    jobs: Vec<Job>,
    /// How many dataflows are about to go.
    going: Rc<Cell<usize>>,
    /// How many alarms were raised, and how many of them the worker has looked for.
    alarms: Arc<AtomicU64>,
    alarms_heard: u64,
}

struct Job {
    number: u32,
    dataflow: usize,
    is_going: Rc<Cell<bool>>,
    archive: Option<Arc<ArchiveHandle>>,
    alarm: Arc<Alarm>,
    reporter: Arc<Reporter>,
    end: EndPort,
}

/// Held by an operator of a dataflow; tells when that is about to go. (Operators go one by one, so its others may
/// still be there.)
pub struct Alive {
    is_going: Rc<Cell<bool>>,
    going: Rc<Cell<usize>>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.is_going.set(true);
        self.going.set(self.going.get() + 1);
    }
}

impl Jobs {
    fn new(alarms: Arc<AtomicU64>) -> Self {
        Self { jobs: Vec::new(), going: Rc::default(), alarms, alarms_heard: 0 }
    }

    /// A worker's life.
    fn work(&mut self, worker: &mut Worker, mailbox: &mpsc::Receiver<Order>) {
        let mut is_ending = false;
        loop {
            for order in mailbox.try_iter() {
                match order {
                    Order::Install(part) => self.install(worker, *part),
                    Order::End => is_ending = true,
                }
            }
            self.look(worker);
            if is_ending && !worker.has_dataflows() {
                return;
            }
            worker.step_or_park(None);
        }
    }

    fn install(&mut self, worker: &mut Worker, part: Installation) {
        let Installation { parts, activator, archive, alarm, reporter, end } = part;
        let (number, is_first) = (parts.job_number, parts.commands.is_some());
        let dataflow = worker.next_dataflow_index();
        let is_going = Rc::new(Cell::new(false));
        let alive = Alive { is_going: is_going.clone(), going: self.going.clone() };
        self.jobs.push(Job { number, dataflow, is_going, archive, alarm, reporter, end });
        worker.dataflow(|scope| {
            graph::build(scope, parts, alive, |wake| {
                if is_first {
                    *lock(&activator) = Some(wake);
                }
            });
        });
    }

    /// Lets go of jobs that have ended, and ends those that cannot go on.
    fn look(&mut self, worker: &mut Worker) {
        let alarms = self.alarms.load(Ordering::SeqCst);
        if alarms != self.alarms_heard {
            self.alarms_heard = alarms;
            // Nothing more can be kept, so nothing more is done; the next start of the job goes on from its last
            // checkpoint.
            let raised = self.jobs.iter().filter(|job| job.alarm.reason().is_some());
            raised.for_each(|job| worker.drop_dataflow(job.dataflow));
        }
        if self.going.get() == 0 {
            return;
        }
        let there = worker.installed_dataflows();
        let is_gone = |job: &mut Job| job.is_going.get() && !there.contains(&job.dataflow);
        for job in self.jobs.extract_if(.., is_gone) {
            self.going.set(self.going.get() - 1);
            job.end.tell(job.archive);
        }
    }

    /// Leaves a report of a panic: of the job that had something in hand, or of all.
    fn report(&self, worker: usize, panic: &(dyn Any + Send)) {
        let on_duty = quarantine::on_duty();
        for job in self.jobs.iter().filter(|job| on_duty.is_none_or(|number| number == job.number)) {
            job.reporter.report(worker, panic);
        }
    }
}
