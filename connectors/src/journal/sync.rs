//! The thread that makes a journal durable. While it waits for the disk more frames gather, and the
//! next sync takes them all: under load a sync is shared by many messages. A disk that is quick would
//! leave no time for that, so after a sync the next one waits a moment for company; a record that comes
//! alone is synced at once.
//!
//! ```text
//!   append ── written ──► [ State ] ──► thread: gather, sync ──► synced, waker
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::JournalError;
use crate::alarm::Alarm;
use crate::disk::{Disk, DiskFile};
use crate::failpoint::{self, Failpoint};
use crate::queue::Waker;
use crate::thread::Worker;

/// How long closing a journal waits for the disk.
const CLOSE_MAX: Duration = Duration::from_secs(4);

/// How many records do not wait for more. Brokers leave as few as 20 unacknowledged, so that more would
/// be waited for in vain.
const GATHER_RECORDS: u64 = 16;

/// How long after the last sync records wait for company.
const GATHER_MAX: Duration = Duration::from_millis(1);

/// A file whose end is to be made durable.
pub(super) struct Unsynced {
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn DiskFile>,
    /// Its name is not durable yet either.
    pub(super) is_new: bool,
}

/// The writer's end of the thread.
pub(super) struct Syncer {
    shared: Arc<Shared>,
    worker: Worker,
}

struct Shared {
    name: String,
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    alarm: Arc<Alarm>,
    waker: Waker,
    state: Mutex<State>,
    /// There is something to sync, or nothing more will come.
    work: Condvar,
    /// `synced` has moved, or never will again.
    progress: Condvar,
    /// The last position that is durable.
    synced: AtomicU64,
    syncs: AtomicU64,
    has_failed: AtomicBool,
}

struct State {
    written: u64,
    /// How many records must be written and not synced for the thread to be woken.
    awaited: u64,
    /// Who waits for all to be durable, and not for company.
    waiters: usize,
    /// The file that takes the place of the one before it, all of which is durable.
    file: Option<Unsynced>,
    is_closing: bool,
}

impl Syncer {
    /// Everything up to `synced` is durable.
    pub(super) fn start(
        name: &str,
        disk: Arc<dyn Disk>,
        folder: &Path,
        alarm: Arc<Alarm>,
        waker: Waker,
        synced: u64,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            disk,
            folder: folder.to_owned(),
            alarm,
            waker,
            state: Mutex::new(State {
                written: synced,
                awaited: 1,
                waiters: 0,
                file: None,
                is_closing: false,
            }),
            work: Condvar::new(),
            progress: Condvar::new(),
            synced: AtomicU64::new(synced),
            syncs: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
        });
        let syncing = shared.clone();
        let worker = Worker::spawn(&format!("journal-{name}"), move || syncing.run())?;
        Ok(Self { shared, worker })
    }

    /// What is written from now on goes to this file.
    pub(super) fn begin(&self, file: Unsynced) {
        self.shared.lock().file = Some(file);
    }

    /// Everything up to `position` is written.
    pub(super) fn written(&self, position: u64) {
        let mut state = self.shared.lock();
        state.written = position;
        if position - self.synced() >= state.awaited {
            self.shared.work.notify_one();
        }
    }

    /// The journal goes on after `position`; what came before it is durable elsewhere.
    pub(super) fn skip_to(&self, position: u64) {
        let mut state = self.shared.lock();
        state.written = position;
        self.shared.synced.store(position, Ordering::SeqCst);
    }

    pub(super) fn synced(&self) -> u64 {
        self.shared.synced.load(Ordering::SeqCst)
    }

    pub(super) fn syncs(&self) -> u64 {
        self.shared.syncs.load(Ordering::Relaxed)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.shared.has_failed.load(Ordering::SeqCst)
    }

    /// Something of the journal could not be written: nothing is called durable any more.
    pub(super) fn fail(&self, action: &'static str, path: &Path, error: io::Error) -> JournalError {
        self.shared.fail(action, path, error)
    }

    /// Waits until everything that is written is durable.
    pub(super) fn wait(&self) -> Result<(), JournalError> {
        let mut state = self.shared.lock();
        state.waiters += 1;
        self.shared.work.notify_one();
        while self.synced() < state.written && !self.has_failed() {
            state = self.shared.progress.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiters -= 1;
        if self.has_failed() { Err(JournalError::Failed) } else { Ok(()) }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.lock().is_closing = true;
        self.shared.work.notify_one();
        // A disk that does not answer is not waited for: what it holds back was not acknowledged.
        self.worker.join_within(CLOSE_MAX);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut current: Option<Unsynced> = None;
        let mut synced_at = None;
        loop {
            let mut state = self.gather(synced_at);
            let target = state.written;
            if let Some(file) = state.file.take() {
                current = Some(file);
            }
            drop(state);
            if target <= self.synced.load(Ordering::SeqCst) || self.has_failed.load(Ordering::SeqCst) {
                return;
            }
            let Some(file) = &mut current else { return };
            if let Err(error) = self.sync(file) {
                self.fail("sync", &file.path, error);
                return;
            }
            // A write that failed meanwhile ends it: nothing is acknowledged any more.
            if self.has_failed.load(Ordering::SeqCst) {
                return;
            }
            self.synced.store(target, Ordering::SeqCst);
            self.syncs.fetch_add(1, Ordering::Relaxed);
            synced_at = Some(Instant::now());
            self.tell();
        }
    }

    /// Waits until there is enough to sync, or it has waited long enough, or nothing more will come.
    fn gather(&self, synced_at: Option<Instant>) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        loop {
            let count = state.written - self.synced.load(Ordering::SeqCst);
            if state.is_closing || count >= GATHER_RECORDS || (count > 0 && state.waiters > 0) {
                break;
            }
            let left = synced_at.map_or(Duration::ZERO, |at| GATHER_MAX.saturating_sub(at.elapsed()));
            state = match left.is_zero() {
                true if count > 0 => break,
                true => {
                    state.awaited = 1;
                    self.work.wait(state).unwrap_or_else(PoisonError::into_inner)
                }
                false => {
                    state.awaited = GATHER_RECORDS;
                    self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        // Whoever writes from now on is seen after the sync.
        state.awaited = u64::MAX;
        state
    }

    fn sync(&self, unsynced: &mut Unsynced) -> io::Result<()> {
        failpoint::hit(Failpoint::JournalSync)?;
        unsynced.file.sync()?;
        if unsynced.is_new {
            self.disk.sync_folder(&self.folder)?;
            unsynced.is_new = false;
        }
        Ok(())
    }

    /// Never tried again: after a failed sync the kernel may call pages clean that never got to the disk.
    fn fail(&self, action: &'static str, path: &Path, error: io::Error) -> JournalError {
        let error = JournalError::io(action, path, error);
        self.alarm.raise(format!("journal of {}: {error}", self.name));
        self.has_failed.store(true, Ordering::SeqCst);
        self.tell();
        error
    }

    fn tell(&self) {
        // The lock is taken once, so that who has just looked and is about to wait is not missed.
        drop(self.lock());
        self.progress.notify_all();
        (self.waker)();
    }
}
