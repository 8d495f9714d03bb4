//! The port to the disk: everything that must survive a crash is written through it, so that tests
//! can lose power, fill the disk and flip bits at any step.
//!
//! ```text
//!   journal, segments, checkpoints ──► Disk ──► SystemDisk   the machine's
//!                                          '──► SimDisk      in memory, fails on command
//! ```
//! What was written survives a crash of the process at once, and a loss of power only after `sync`
//! of the file and, where its name is new, `sync_folder` of its folder.

mod sim;
mod system;

pub use sim::{Fault, SimDisk};
pub use system::SystemDisk;

use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Files and folders that may be synced.
pub trait Disk: Send + Sync + 'static {
    /// Makes a file, or empties the one that is there.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that is there to write behind its end.
    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Reads a whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Reads these bytes of a file; all of them, or an error.
    fn read_range(&self, path: &Path, range: Range<u64>) -> io::Result<Vec<u8>>;

    /// How many bytes a file has.
    fn len(&self, path: &Path) -> io::Result<u64>;

    /// Whether there is a folder of this name.
    fn is_folder(&self, path: &Path) -> io::Result<bool>;

    /// Files and folders in a folder, sorted; none where it is missing.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;

    /// Makes a folder and those above it; one that is there is fine.
    fn make_folder(&self, folder: &Path) -> io::Result<()>;

    /// Removes a folder that is empty.
    fn remove_folder(&self, folder: &Path) -> io::Result<()>;

    /// Gives a file another name, over one that has it already.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file; one that is not there is an error of kind `NotFound`.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Cuts a file to a length.
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// A file that is being written.
pub trait DiskFile: Write + Send {
    /// Makes what was written durable. After an error nothing is known of what is: the file must
    /// not be synced again as if it were new (the kernel may have dropped the pages).
    fn sync(&mut self) -> io::Result<()>;
}

/// Replaces a file as a whole, durably: written beside, synced, renamed, and the folder synced.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = unfinished(path);
    let mut file = disk.create(&beside)?;
    file.write_all(bytes)?;
    file.sync()?;
    drop(file);
    disk.rename(&beside, path)?;
    disk.sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// Makes a folder that survives a loss of power: the names of all folders made for it are synced too.
pub fn make_durable_folder(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    for path in folder.ancestors().filter(|path| !path.as_os_str().is_empty()) {
        if disk.is_folder(path)? {
            break;
        }
        missing.push(path);
    }
    disk.make_folder(folder)?;
    missing.iter().rev().try_for_each(|made| disk.sync_folder(made.parent().unwrap_or(Path::new(""))))
}

/// The name of a file that is not complete yet: `.<name>.inprogress` beside it.
pub fn unfinished(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}{UNFINISHED}"))
}

/// Whether a file is one that was not completed.
pub fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') && name.ends_with(UNFINISHED)
}

const UNFINISHED: &str = ".inprogress";
