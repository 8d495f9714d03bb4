//! What makes a journal durable, on a thread that is there while records come. While it waits for the disk more frames gather, and the
//! next sync takes them all: under load a sync is shared by many messages. A disk that is quick would
//! leave no time for that, so after a sync the next one waits a moment for company; a record that comes
//! alone is synced at once.
//!
//! ```text
//!   append ── written ──► [ State ] ── call ──► thread: gather, sync ──► synced, waker
//! ```

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::JournalError;
use crate::alarm::Alarm;
use crate::disk::{Disk, DiskFile};
use crate::failpoint::{self, Failpoint};
use crate::on_call::OnCall;
use crate::queue::Waker;

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
    work: OnCall,
}

struct Shared {
    name: String,
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    alarm: Arc<Alarm>,
    waker: Waker,
    state: Mutex<State>,
    /// There is enough to sync, or somebody waits for it, or nothing more will come.
    enough: Condvar,
    /// `synced` has moved, or never will again.
    progress: Condvar,
    /// The last position that is durable.
    synced: AtomicU64,
    syncs: AtomicU64,
    has_failed: AtomicBool,
}

struct State {
    written: u64,
    /// How many records must be written and not synced for the thread to be woken, or called.
    awaited: u64,
    /// The thread waits for company; else it must be called.
    is_gathering: bool,
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
    ) -> Self {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            disk,
            folder: folder.to_owned(),
            alarm,
            waker,
            state: Mutex::new(State {
                written: synced,
                awaited: 1,
                is_gathering: false,
                waiters: 0,
                file: None,
                is_closing: false,
            }),
            enough: Condvar::new(),
            progress: Condvar::new(),
            synced: AtomicU64::new(synced),
            syncs: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
        });
        let mut syncing = Syncing { shared: shared.clone(), current: None, synced_at: None };
        let work = OnCall::new(&format!("journal-{name}"), move || syncing.run());
        Self { shared, work }
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
            self.rouse(state);
        }
    }

    /// Tells the thread, which is started where there is none.
    fn rouse(&self, state: MutexGuard<'_, State>) {
        let is_gathering = state.is_gathering;
        drop(state);
        match is_gathering {
            true => self.shared.enough.notify_one(),
            false => self.work.call(),
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
        if self.synced() < state.written {
            self.rouse(state);
            state = self.shared.lock();
        }
        while self.synced() < state.written && !self.has_failed() {
            state = self.shared.progress.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiters -= 1;
        if self.has_failed() { Err(JournalError::Failed) } else { Ok(()) }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_closing = true;
        self.rouse(state);
        // A disk that does not answer is not waited for: what it holds back was not acknowledged.
        self.work.wait_over(CLOSE_MAX);
    }
}

/// The thread's side.
struct Syncing {
    shared: Arc<Shared>,
    /// The file that is written now.
    current: Option<Unsynced>,
    synced_at: Option<Instant>,
}

impl Syncing {
    /// Syncs until all is durable; breaks where nothing more can come.
    fn run(&mut self) -> ControlFlow<()> {
        let shared = self.shared.clone();
        loop {
            let mut state = shared.gather(self.synced_at);
            let target = state.written;
            if let Some(file) = state.file.take() {
                self.current = Some(file);
            }
            let is_closing = state.is_closing;
            drop(state);
            if shared.has_failed.load(Ordering::SeqCst) {
                return ControlFlow::Break(());
            }
            if target <= shared.synced.load(Ordering::SeqCst) {
                return if is_closing { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            }
            let Some(file) = &mut self.current else { return ControlFlow::Break(()) };
            if let Err(error) = shared.sync(file) {
                shared.fail("sync", &file.path, error);
                return ControlFlow::Break(());
            }
            // A write that failed meanwhile ends it: nothing is acknowledged any more.
            if shared.has_failed.load(Ordering::SeqCst) {
                return ControlFlow::Break(());
            }
            shared.synced.store(target, Ordering::SeqCst);
            shared.syncs.fetch_add(1, Ordering::Relaxed);
            self.synced_at = Some(Instant::now());
            shared.tell();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is enough to sync, or it has waited long enough, or nothing more will come; does not wait
    /// for the first record.
    fn gather(&self, synced_at: Option<Instant>) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        loop {
            let count = state.written - self.synced.load(Ordering::SeqCst);
            let left = synced_at.map_or(Duration::ZERO, |at| GATHER_MAX.saturating_sub(at.elapsed()));
            let is_enough = count >= GATHER_RECORDS || (count > 0 && state.waiters > 0);
            if state.is_closing || is_enough || left.is_zero() {
                // Whoever writes while it syncs is seen after that; whoever does after it has rested calls.
                state.awaited = if count == 0 { 1 } else { u64::MAX };
                return state;
            }
            (state.awaited, state.is_gathering) = (GATHER_RECORDS, true);
            state = self.enough.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.is_gathering = false;
        }
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
