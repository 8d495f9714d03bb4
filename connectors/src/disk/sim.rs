//! A disk in memory that fails on command, so that a test can lose power, fill the disk or flip a
//! bit at any step of what is written, and again the same way.
//!
//! ```text
//!   code under test ──Disk──► SimDisk ──crash()──► what the machine finds that lost power
//!          plan(fault, nth) ──'    '──kill()───► what the next process finds after kill -9
//! ```
//! Chance comes from the seed alone. Operations are those that change something; a test runs once,
//! asks how many there were, and runs again with the machine off at each of them.

mod state;
#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Disk, DiskFile};
use state::{Node, State};

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A write fails: no space is left.
    WriteFails,
    /// A write takes a part of the bytes only, and says so.
    ShortWrite,
    /// A sync of a file or folder fails with an error of input or output; what was to be synced of a
    /// file is gone, although reads show it and later syncs succeed.
    SyncFails,
    /// The machine goes off within an operation, which may or may not have been done, in part where
    /// it is a write; that one and all that follow fail.
    PowerOff,
}

/// A simulated disk; clones share it.
#[derive(Clone)]
pub struct SimDisk {
    machine: Arc<Mutex<Machine>>,
}

struct Machine {
    state: State,
    is_off: bool,
    capacity_bytes: u64,
    /// How long each operation takes.
    pause: Duration,
    /// Faults to come, each with how many of its operations are left until it strikes.
    plan: Vec<(Fault, u64)>,
    operations: u64,
    writes: u64,
    syncs: u64,
}

/// The kinds of operations that faults tell apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Write,
    Sync,
    Name,
}

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

impl SimDisk {
    /// An empty disk without a limit; the seed decides what a crash leaves.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk::with(State::new(seed), u64::MAX)
    }

    fn with(state: State, capacity_bytes: u64) -> SimDisk {
        let machine = Machine {
            state,
            is_off: false,
            capacity_bytes,
            pause: Duration::ZERO,
            plan: Vec::new(),
            operations: 0,
            writes: 0,
            syncs: 0,
        };
        SimDisk { machine: Arc::new(Mutex::new(machine)) }
    }

    /// Plans a fault for the `nth` operation from now on that it can strike (1 is the next one).
    pub fn plan(&self, fault: Fault, nth: u64) {
        self.lock().plan.push((fault, nth.max(1)));
    }

    /// Sets how many bytes all files together may have.
    pub fn limit(&self, capacity_bytes: u64) {
        self.lock().capacity_bytes = capacity_bytes;
    }

    /// Makes the disk slow: from now on each operation takes so long, and others may pass it meanwhile.
    pub fn slow(&self, pause: Duration) {
        self.lock().pause = pause;
    }

    /// Flips a bit of a file, in what is durable too.
    pub fn flip_bit(&self, path: &Path, bit: u64) -> io::Result<()> {
        let mut machine = self.lock();
        let file = machine.file(path)?;
        if machine.state.flip(file, bit) { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    /// Turns the machine off and gives the disk that it finds when it is on again: names and bytes
    /// that were not synced may be there, or not, or damaged. All handles of this one fail from now on.
    pub fn crash(&self) -> SimDisk {
        let mut machine = self.lock();
        machine.is_off = true;
        SimDisk::with(machine.state.crash(), machine.capacity_bytes)
    }

    /// Ends the process and gives the disk that the next one finds: all that was written, as durable
    /// as it was. All handles of this one fail from now on.
    pub fn kill(&self) -> SimDisk {
        let mut machine = self.lock();
        machine.is_off = true;
        SimDisk::with(machine.state.clone(), machine.capacity_bytes)
    }

    /// How many operations there were that changed something, failed ones too.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// How many of them were writes.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// How many of them were syncs, of files and folders.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// A test that panicked while it held the lock leaves a disk that is still whole.
    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A look at the disk, which no fault strikes.
    fn look(&self) -> io::Result<MutexGuard<'_, Machine>> {
        let machine = self.lock();
        if machine.is_off { Err(off()) } else { Ok(machine) }
    }

    /// Lets an operation take its time.
    fn rest(&self) {
        let pause = self.lock().pause;
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }

    /// A change of names, or a sync: `done` is what it does where it succeeds.
    fn operate(
        &self,
        kind: Kind,
        fail: impl FnOnce(&mut State),
        done: impl FnOnce(&mut State),
    ) -> io::Result<()> {
        self.rest();
        let mut machine = self.look()?;
        match machine.strike(kind) {
            Some(Fault::PowerOff) => {
                if machine.state.coin() {
                    done(&mut machine.state);
                }
                Err(off())
            }
            Some(_) => {
                fail(&mut machine.state);
                Err(io::Error::from_raw_os_error(EIO))
            }
            None => {
                done(&mut machine.state);
                Ok(())
            }
        }
    }

    fn change(&self, done: impl FnOnce(&mut State)) -> io::Result<()> {
        self.operate(Kind::Name, |_| {}, done)
    }

    fn handle(&self, file: u64) -> Box<dyn DiskFile> {
        Box::new(SimFile { disk: self.clone(), file })
    }
}

impl Machine {
    /// Counts an operation, and says what strikes it.
    fn strike(&mut self, kind: Kind) -> Option<Fault> {
        self.operations += 1;
        self.writes += u64::from(kind == Kind::Write);
        self.syncs += u64::from(kind == Kind::Sync);
        let mut struck = None;
        self.plan.retain_mut(|(fault, left)| {
            let strikes = match fault {
                Fault::WriteFails | Fault::ShortWrite => kind == Kind::Write,
                Fault::SyncFails => kind == Kind::Sync,
                Fault::PowerOff => true,
            };
            *left -= u64::from(strikes);
            // The machine going off goes before all else.
            if *left == 0 && struck != Some(Fault::PowerOff) {
                struck = Some(*fault);
            }
            *left > 0
        });
        self.is_off |= struck == Some(Fault::PowerOff);
        struck
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        match self.state.node(&plain(path)) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Folder) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn bytes(&self, path: &Path) -> io::Result<&[u8]> {
        Ok(self.state.bytes(self.file(path)?))
    }

    /// The folder of a path must be there before a name can be made in it.
    fn has_folder_of(&self, path: &Path) -> io::Result<()> {
        match self.state.node(path.parent().unwrap_or(path)) {
            Some(Node::Folder) => Ok(()),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let path = plain(path);
        let machine = self.look()?;
        machine.has_folder_of(&path)?;
        let there = match machine.file(&path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        drop(machine);
        let mut made = None;
        self.change(|state| match there {
            Some(file) => {
                state.empty(file);
                made = Some(file);
            }
            None => made = Some(state.make_file(&path)),
        })?;
        Ok(self.handle(made.expect("a change that succeeds was done")))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.look()?.file(path)?;
        Ok(self.handle(file))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.look()?.bytes(path)?.to_vec())
    }

    fn read_range(&self, path: &Path, range: Range<u64>) -> io::Result<Vec<u8>> {
        let machine = self.look()?;
        let range = range.start as usize..range.end as usize;
        let bytes = machine.bytes(path)?.get(range).ok_or(ErrorKind::UnexpectedEof)?;
        Ok(bytes.to_vec())
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(self.look()?.bytes(path)?.len() as u64)
    }

    fn is_folder(&self, path: &Path) -> io::Result<bool> {
        Ok(self.look()?.state.node(&plain(path)) == Some(Node::Folder))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let children = self.look()?.state.children(&plain(folder));
        // Told in the words of the one who asks, as the system does.
        Ok(children.iter().filter_map(|path| path.file_name()).map(|name| folder.join(name)).collect())
    }

    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        let folder = plain(folder);
        let mut missing = Vec::new();
        for path in folder.ancestors() {
            match self.look()?.state.node(path) {
                Some(Node::Folder) => break,
                Some(Node::File(_)) if path == folder => return Err(ErrorKind::AlreadyExists.into()),
                Some(Node::File(_)) => return Err(ErrorKind::NotADirectory.into()),
                None => missing.push(path),
            }
        }
        missing.iter().rev().try_for_each(|path| self.change(|state| state.make_folder(path)))
    }

    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        let folder = plain(folder);
        let machine = self.look()?;
        match machine.state.node(&folder) {
            Some(Node::Folder) if machine.state.children(&folder).is_empty() => {}
            Some(Node::Folder) => return Err(ErrorKind::DirectoryNotEmpty.into()),
            Some(Node::File(_)) => return Err(ErrorKind::NotADirectory.into()),
            None => return Err(ErrorKind::NotFound.into()),
        }
        drop(machine);
        self.change(|state| state.remove(&folder))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (plain(from), plain(to));
        let machine = self.look()?;
        let file = machine.file(&from)?;
        machine.has_folder_of(&to)?;
        if machine.state.node(&to) == Some(Node::Folder) {
            return Err(ErrorKind::IsADirectory.into());
        }
        drop(machine);
        self.change(|state| {
            // A name given to itself changes nothing.
            if from != to {
                state.rename(&from, &to, file);
            }
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.look()?.file(path)?;
        self.change(|state| state.remove(&plain(path)))
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let file = self.look()?.file(path)?;
        self.operate(Kind::Sync, |state| state.fail_sync(file), |state| state.truncate(file, len as usize))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let folder = plain(folder);
        match self.look()?.state.node(&folder) {
            Some(Node::Folder) => {}
            Some(Node::File(_)) => return Err(ErrorKind::NotADirectory.into()),
            None => return Err(ErrorKind::NotFound.into()),
        }
        self.operate(Kind::Sync, |_| {}, |state| state.sync_folder(&folder))
    }
}

/// A file of a simulated disk that is being written, always behind its end.
struct SimFile {
    disk: SimDisk,
    file: u64,
}

impl Write for SimFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.rest();
        let mut machine = self.disk.look()?;
        let room = machine.capacity_bytes.saturating_sub(machine.state.used_bytes());
        let taken = match machine.strike(Kind::Write) {
            Some(Fault::PowerOff) => {
                let part = machine.state.below(bytes.len() + 1);
                machine.state.write(self.file, &bytes[..part]);
                return Err(off());
            }
            Some(Fault::WriteFails) => return Err(io::Error::from_raw_os_error(ENOSPC)),
            Some(Fault::ShortWrite) => bytes.len().div_ceil(2),
            _ => bytes.len(),
        };
        // A disk that gets full takes what still fits, and fails at the next write.
        let taken = taken.min(usize::try_from(room).unwrap_or(usize::MAX));
        if taken == 0 && !bytes.is_empty() {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        machine.state.write(self.file, &bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.disk.look().map(drop)
    }
}

impl DiskFile for SimFile {
    fn sync(&mut self) -> io::Result<()> {
        let file = self.file;
        self.disk.operate(Kind::Sync, |state| state.fail_sync(file), |state| state.sync(file))
    }
}

fn off() -> io::Error {
    io::Error::other("the simulated machine is off")
}

/// A path without `.` and what else says nothing.
fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}
