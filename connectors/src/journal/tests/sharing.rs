//! Frames that gather while the disk is busy share the next sync: on a disk whose syncs end when the
//! test says so.

use super::*;
use std::io::Write;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};

/// The machine's disk; a sync of a file that was opened to be synced says that it has begun, and ends
/// when it is let go.
struct Slow {
    begun: Sender<()>,
    let_go: Arc<Mutex<Receiver<()>>>,
}

struct SlowFile {
    file: Box<dyn DiskFile>,
    begun: Sender<()>,
    let_go: Arc<Mutex<Receiver<()>>>,
}

impl Write for SlowFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl DiskFile for SlowFile {
    fn sync(&mut self) -> io::Result<()> {
        self.begun.send(()).map_err(io::Error::other)?;
        let let_go = self.let_go.lock().expect("not poisoned");
        let_go.recv().map_err(io::Error::other)?;
        self.file.sync()
    }
}

impl Disk for Slow {
    fn is_folder(&self, path: &Path) -> io::Result<bool> {
        SystemDisk.is_folder(path)
    }

    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        SystemDisk.remove_folder(folder)
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = SystemDisk.append(path)?;
        Ok(Box::new(SlowFile { file, begun: self.begun.clone(), let_go: self.let_go.clone() }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        SystemDisk.create(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        SystemDisk.read(path)
    }

    fn read_range(&self, path: &Path, range: Range<u64>) -> io::Result<Vec<u8>> {
        SystemDisk.read_range(path, range)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        SystemDisk.len(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        SystemDisk.list(folder)
    }

    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        SystemDisk.make_folder(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove(path)
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        SystemDisk.truncate(path, len)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        SystemDisk.sync_folder(folder)
    }
}

#[test]
fn frames_that_gather_share_a_sync() {
    let folder = tempfile::tempdir().expect("a folder");
    let ((begun, begins), (let_go, released)) = (mpsc::channel(), mpsc::channel());
    let disk = Arc::new(Slow { begun, let_go: Arc::new(Mutex::new(released)) });
    let (mut journal, _) = opened(JournalSetup { disk, ..setup(folder.path()) });
    let mut append = |count: u16| {
        for packet_id in 1..=count {
            journal.append(1, &[message(packet_id, "t", b"x")]).expect("appended");
        }
        (journal.synced(), journal.syncs())
    };
    // The first comes alone, and does not wait for others.
    append(1);
    begins.recv().expect("the first sync");
    assert_eq!(append(99), (0, 0), "a sync that has begun is no promise for what came after");
    let_go.send(()).expect("the journal waits");
    begins.recv().expect("the second sync");
    assert_eq!(append(20), (1, 1));
    let_go.send(()).expect("the journal waits");
    begins.recv().expect("the third sync");
    let_go.send(()).expect("the journal waits");
    journal.wait_synced().expect("all of them");
    assert_eq!((journal.synced(), journal.syncs()), (120, 3));
}
