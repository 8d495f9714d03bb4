//! Objects as files below a folder.
//!
//! ```text
//!   create ─► .x.part.inprogress ─write─► ─sync─► ─rename─► x.part ─sync folder─► durable
//! ```

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Store, StoreWriter, check_name};
use crate::disk::{Disk, DiskFile, is_unfinished, make_durable_folder, unfinished};

/// A store in a folder of a disk.
pub struct FolderStore {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    /// Folders whose names are known to be durable, so that they are synced once.
    durable: Mutex<BTreeSet<PathBuf>>,
}

impl FolderStore {
    /// The store in this folder, which is made when the first object is.
    pub fn new(disk: Arc<dyn Disk>, root: PathBuf) -> FolderStore {
        FolderStore { disk, root, durable: Mutex::default() }
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        check_name(name)?;
        Ok(self.root.join(name))
    }

    /// Makes a folder of the store. One that is there may come from a process that died before it
    /// was synced, so the names up to the root are synced at its first use in any case.
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if durable.contains(folder) {
            return Ok(());
        }
        make_durable_folder(&*self.disk, folder)?;
        for inner in folder.ancestors().take_while(|path| *path != self.root) {
            self.disk.sync_folder(inner.parent().unwrap_or(&self.root))?;
        }
        durable.insert(folder.to_owned());
        Ok(())
    }

    /// All files at and below a folder.
    fn walk(&self, folder: &Path, visit: &mut impl FnMut(PathBuf) -> io::Result<()>) -> io::Result<()> {
        for path in self.disk.list(folder)? {
            if self.disk.is_folder(&path)? {
                self.walk(&path, visit)?;
            } else {
                visit(path)?;
            }
        }
        Ok(())
    }
}

impl Store for FolderStore {
    fn create(&self, name: &str) -> io::Result<Box<dyn StoreWriter>> {
        let path = self.path(name)?;
        self.make_folder(path.parent().unwrap_or(&self.root))?;
        let beside = unfinished(&path);
        let file = Some(self.disk.create(&beside)?);
        Ok(Box::new(FolderWriter { disk: self.disk.clone(), file, path, beside, is_renamed: false }))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.disk.read(&self.path(name)?)
    }

    fn read_range(&self, name: &str, range: Range<u64>) -> io::Result<Vec<u8>> {
        self.disk.read_range(&self.path(name)?, range)
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        self.disk.len(&self.path(name)?)
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        // Only the folder that the prefix stands in is walked.
        let folder = match prefix.rsplit_once('/') {
            Some((folder, _)) => self.path(folder)?,
            None => self.root.clone(),
        };
        self.walk(&folder, &mut |path| {
            let name = path.strip_prefix(&self.root).ok().and_then(Path::to_str);
            names.extend(
                name.filter(|name| name.starts_with(prefix) && check_name(name).is_ok()).map(String::from),
            );
            Ok(())
        })?;
        names.sort();
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        missing_is_fine(self.disk.remove(&self.path(name)?))
    }

    fn clean(&self) -> io::Result<()> {
        self.walk(&self.root, &mut |path| {
            if is_unfinished(&path) { missing_is_fine(self.disk.remove(&path)) } else { Ok(()) }
        })
    }
}

/// A file beside its later name.
struct FolderWriter {
    disk: Arc<dyn Disk>,
    /// Taken when it is closed.
    file: Option<Box<dyn DiskFile>>,
    path: PathBuf,
    beside: PathBuf,
    is_renamed: bool,
}

impl FolderWriter {
    fn file(&mut self) -> &mut dyn DiskFile {
        self.file.as_deref_mut().expect("it is closed by finish only, which takes the writer")
    }
}

impl Write for FolderWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

impl StoreWriter for FolderWriter {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.file().flush()?;
        self.file().sync()?;
        self.file = None;
        self.disk.rename(&self.beside, &self.path)?;
        self.is_renamed = true;
        self.disk.sync_folder(self.path.parent().unwrap_or(Path::new("")))
    }
}

impl Drop for FolderWriter {
    fn drop(&mut self) {
        self.file = None;
        if !self.is_renamed {
            // Where this fails, the next `clean` removes it.
            let _ = self.disk.remove(&self.beside);
        }
    }
}

fn missing_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
