//! Where checkpoints are kept: a flat namespace of objects that are whole or not there, so that a
//! folder and a bucket are the same to those who write and restore state.
//!
//! ```text
//!   parts, manifests ──► Store ──► FolderStore ──► Disk     a path, file://
//!                            '──► S3Store                   s3://bucket/prefix, feature `s3`
//! ```
//! An object becomes visible when it is complete and durable, and is then never changed; writing its
//! name again replaces it as a whole.

mod folder;
#[cfg(feature = "s3")]
mod s3;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

pub use folder::FolderStore;
#[cfg(feature = "s3")]
pub use s3::S3Store;

use crate::disk::Disk;

/// Named objects, such as `7/worker-0.part`.
///
/// A name is made of parts between `/`, none of which is empty or begins with a dot. What is not
/// there is an error of kind `NotFound`, an object that is too short for a range `UnexpectedEof`.
pub trait Store: Send + Sync + 'static {
    /// Begins an object; nobody sees it before it is finished.
    fn create(&self, name: &str) -> io::Result<Box<dyn StoreWriter>>;

    /// Reads a whole object.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Reads these bytes of an object; all of them, or an error.
    fn read_range(&self, name: &str, range: Range<u64>) -> io::Result<Vec<u8>>;

    /// How many bytes an object has.
    fn size(&self, name: &str) -> io::Result<u64>;

    /// The names of all objects that begin with these letters, sorted.
    fn list(&self, prefix: &str) -> io::Result<Vec<String>>;

    /// Removes an object; one that is not there is fine. A loss of power may bring it back.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Removes what processes that died left unfinished. Only for the owner of the store, before
    /// anybody writes.
    fn clean(&self) -> io::Result<()>;

    /// Writes a whole object; it is durable when this returns.
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut writer = self.create(name)?;
        writer.write_all(bytes)?;
        writer.finish()
    }
}

/// An object that is being written; dropped before it is finished it leaves nothing.
pub trait StoreWriter: Write + Send {
    /// Completes the object, which is durable and visible when this returns. After an error it may
    /// have become visible, but only whole.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A URL of another kind.
    #[error("`{0}` is no store; give a path, file:///path or s3://bucket/prefix")]
    Url(String),
    /// S3 was not built in.
    #[error("`{0}` needs S3, which this build lacks; build with `--features s3`, or give a path")]
    NeedsFeature(String),
    /// The settings for S3 are not complete.
    #[error("`{url}` cannot be used: {reason}; see the environment variables AWS_*")]
    Settings {
        /// The URL given.
        url: String,
        /// What is wrong.
        reason: String,
    },
}

/// Opens a store by its URL, or by the path of its folder on the disk. Nothing is read or written yet.
pub fn open(url: &str, disk: Arc<dyn Disk>) -> Result<Arc<dyn Store>, StoreError> {
    let Some((scheme, _)) = url.split_once("://") else {
        return match url {
            "" => Err(StoreError::Url(url.to_owned())),
            path => Ok(Arc::new(FolderStore::new(disk, PathBuf::from(path)))),
        };
    };
    let foreign = || StoreError::Url(url.to_owned());
    match scheme {
        "file" => {
            let parsed = url::Url::parse(url).map_err(|_| foreign())?;
            let path = parsed.to_file_path().map_err(|()| foreign())?;
            Ok(Arc::new(FolderStore::new(disk, path)))
        }
        #[cfg(feature = "s3")]
        "s3" => Ok(Arc::new(S3Store::open(url)?)),
        #[cfg(not(feature = "s3"))]
        "s3" => Err(StoreError::NeedsFeature(url.to_owned())),
        _ => Err(foreign()),
    }
}

/// Refuses names that a folder or a bucket would understand in its own way.
fn check_name(name: &str) -> io::Result<()> {
    let is_plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains('\0');
    if name.split('/').all(is_plain) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{name}` is no name of an object")))
}
