//! The data folder of a job (rules 1.3 and 7.7): one run owns it, and every start raises its
//! generation, so that what an earlier run left can be told apart.
//!
//! ```text
//!   <folder>/lock         locked while a run owns the folder; holds the run's process id
//!   <folder>/generation   "twinloom" | version u32 | generation u64 | length u32, job | crc32 u32
//! ```
//! Numbers are little-endian; the checksum is over everything before it. The file is replaced as a
//! whole: written beside, fsynced, renamed, and the folder fsynced, before `open` returns.

use crate::disk::{self, SystemDisk};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"twinloom";
const VERSION: u32 = 1;

/// The longest job name that is read back, so that a length that lies is no large allocation.
const JOB_BYTES_MAX: usize = 4_096;

/// A data folder that this run owns until the value is dropped.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    generation: u64,
    /// The lock goes when the file is closed, also by a kill.
    _lock: File,
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The file system refused.
    #[error("cannot {action} {}: {error}; check that the data folder may be written and the disk is not full", path.display())]
    Io {
        /// The folder or the file in it.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// Another run owns the folder.
    #[error("the data folder {} is in use{}; stop that run, or give this one another folder", path.display(), by(*process_id))]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The other run's process, where it is known.
        process_id: Option<u32>,
    },
    /// The folder belongs to another job.
    #[error("the data folder {} belongs to the job `{owner}`, not to `{job}`; give `{job}` a folder of its own", path.display())]
    OtherJob {
        /// The folder.
        path: PathBuf,
        /// The job that it belongs to.
        owner: String,
        /// The job that asked for it.
        job: String,
    },
    /// The folder was written by a later version.
    #[error("the data folder {} has format {version}, and this version knows {VERSION}; run the newer version, or use another folder", path.display())]
    Newer {
        /// The folder.
        path: PathBuf,
        /// The format found.
        version: u32,
    },
    /// The generation cannot be read.
    #[error("{} is damaged ({reason}); restore it from a copy, or move the whole data folder away to begin anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A job name that the folder cannot hold.
    #[error(
        "the job's name is {length} bytes long; a data folder holds names of 1 to {JOB_BYTES_MAX} bytes: choose another"
    )]
    JobName {
        /// Its length in bytes.
        length: usize,
    },
}

fn by(process_id: Option<u32>) -> String {
    process_id.map_or_else(|| " by another run".to_owned(), |process_id| format!(" by process {process_id}"))
}

impl DataFolder {
    /// Opens the folder at `path` for `job`, makes it where it is missing, and raises its
    /// generation, durably.
    pub fn open(path: &Path, job: &str) -> Result<Self, FolderError> {
        if !(1..=JOB_BYTES_MAX).contains(&job.len()) {
            return Err(FolderError::JobName { length: job.len() });
        }
        fs::create_dir_all(path).map_err(|error| failed("make", path, error))?;
        let lock = lock(path)?;
        let file = path.join("generation");
        let found = match fs::read(&file) {
            Ok(bytes) => Some(decode(&bytes).map_err(|fault| fault.at(path, &file))?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed("read", &file, error)),
        };
        let generation = match found {
            Some((_, owner)) if owner != job => {
                return Err(FolderError::OtherJob { path: path.to_owned(), owner, job: job.to_owned() });
            }
            Some((u64::MAX, _)) => {
                return Err(Fault::Damaged("no generation is left").at(path, &file));
            }
            Some((generation, _)) => generation + 1,
            None => 1,
        };
        crate::failpoint::hit(crate::failpoint::Failpoint::Generation)
            .and_then(|()| disk::replace(&SystemDisk, &file, &encode(generation, job)))
            .map_err(|error| failed("write", &file, error))?;
        Ok(Self { path: path.to_owned(), generation, _lock: lock })
    }

    /// Grows by one at every start of the job.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The generation of the run that has a data folder, as another process sees it; none where there is none.
pub fn generation_of(path: &Path) -> Option<u64> {
    let bytes = fs::read(path.join("generation")).ok()?;
    decode(&bytes).ok().map(|(generation, _)| generation)
}

/// Takes the lock, and leaves this process's id in it for whoever is refused.
fn lock(folder: &Path) -> Result<File, FolderError> {
    let path = folder.join("lock");
    let opened = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
    let mut file = opened.map_err(|error| failed("open", &path, error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            _ = file.take(32).read_to_string(&mut text);
            return Err(FolderError::InUse { path: folder.to_owned(), process_id: text.trim().parse().ok() });
        }
        Err(TryLockError::Error(error)) => return Err(failed("lock", &path, error)),
    }
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(|error| failed("write", &path, error))?;
    Ok(file)
}

fn failed(action: &'static str, path: &Path, error: io::Error) -> FolderError {
    FolderError::Io { path: path.to_owned(), action, error }
}

/// What is wrong with the bytes of a generation file.
#[derive(Debug, PartialEq)]
enum Fault {
    Newer(u32),
    Damaged(&'static str),
}

impl Fault {
    fn at(self, folder: &Path, file: &Path) -> FolderError {
        match self {
            Self::Newer(version) => FolderError::Newer { path: folder.to_owned(), version },
            Self::Damaged(reason) => FolderError::Damaged { path: file.to_owned(), reason },
        }
    }
}

fn encode(generation: u64, job: &str) -> Vec<u8> {
    let length = u32::try_from(job.len()).expect("a job's name was checked to be short");
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(job.as_bytes());
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Result<(u64, String), Fault> {
    let short = Fault::Damaged("it is cut off");
    let Some((magic, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(short);
    };
    if magic != MAGIC {
        return Err(Fault::Damaged("it is no generation file"));
    }
    let Some((version, rest)) = rest.split_first_chunk::<4>() else {
        return Err(short);
    };
    // Looked at before the checksum, which a later version may keep elsewhere.
    match u32::from_le_bytes(*version) {
        VERSION => {}
        newer if newer > VERSION => return Err(Fault::Newer(newer)),
        _ => return Err(Fault::Damaged("its version never was")),
    }
    let Some((checked, checksum)) = bytes.split_last_chunk::<4>() else {
        return Err(short);
    };
    if crc32fast::hash(checked) != u32::from_le_bytes(*checksum) {
        return Err(Fault::Damaged("its checksum is wrong"));
    }
    let Some((generation, rest)) = rest.split_first_chunk::<8>() else {
        return Err(short);
    };
    let Some((length, rest)) = rest.split_first_chunk::<4>() else {
        return Err(short);
    };
    let length = u32::from_le_bytes(*length) as usize;
    let job = rest.get(..rest.len().saturating_sub(4)).unwrap_or_default();
    match std::str::from_utf8(job) {
        Ok(job) if job.len() == length && length <= JOB_BYTES_MAX => {
            Ok((u64::from_le_bytes(*generation), job.to_owned()))
        }
        _ => Err(Fault::Damaged("its job name does not fit")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file of generation 7 of `press-line`. It must be read for ever.
    const GOLDEN: &str = "7477696e6c6f6f6d\
                          01000000\
                          0700000000000000\
                          0a000000\
                          70726573732d6c696e65\
                          813010fb";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn folder_with(bytes: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("generation"), bytes).expect("written");
        folder
    }

    fn refusal(folder: &Path, job: &str) -> String {
        DataFolder::open(folder, job).expect_err("refused").to_string()
    }

    #[test]
    fn every_start_raises_the_generation() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("data/press-line");
        for generation in 1..=3 {
            let folder = DataFolder::open(&path, "press-line").expect("opened");
            assert_eq!((folder.generation(), folder.path()), (generation, path.as_path()));
        }
    }

    #[test]
    fn the_format_is_the_golden_one() {
        assert_eq!(hex(&encode(7, "press-line")), GOLDEN);
        let folder = folder_with(&encode(7, "press-line"));
        assert_eq!(DataFolder::open(folder.path(), "press-line").expect("opened").generation(), 8);
        assert_eq!(fs::read(folder.path().join("generation")).expect("the file"), encode(8, "press-line"));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let whole = encode(7, "press-line");
        for length in 0..whole.len() {
            assert!(decode(&whole[..length]).is_err(), "cut to {length}");
        }
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bytes).is_err(), "bit {bit}");
        }
        assert!(decode(&[whole, vec![0]].concat()).is_err(), "one byte more");
    }

    #[test]
    fn a_damaged_file_is_refused_and_left_as_it_is() {
        let whole = encode(7, "press-line");
        let cut = &whole[..whole.len() - 1];
        let folder = folder_with(cut);
        let text = refusal(folder.path(), "press-line");
        assert!(text.contains("generation is damaged") && text.contains("restore it"), "{text}");
        assert_eq!(fs::read(folder.path().join("generation")).expect("the file"), cut);
    }

    #[test]
    fn a_newer_format_is_refused() {
        let mut bytes = encode(7, "press-line");
        bytes[8] = 2;
        let folder = folder_with(&bytes);
        let text = refusal(folder.path(), "press-line");
        assert!(text.contains("has format 2, and this version knows 1"), "{text}");
    }

    #[test]
    fn a_folder_of_another_job_is_refused() {
        let folder = folder_with(&encode(7, "press-line"));
        let text = refusal(folder.path(), "paint-shop");
        assert!(text.contains("belongs to the job `press-line`, not to `paint-shop`"), "{text}");
        assert_eq!(DataFolder::open(folder.path(), "press-line").expect("opened").generation(), 8);
    }

    #[test]
    fn a_folder_in_use_is_refused_and_free_again_after() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = DataFolder::open(folder.path(), "j").expect("opened");
        let text = refusal(folder.path(), "j");
        assert!(text.contains(&format!("in use by process {}", std::process::id())), "{text}");
        drop(first);
        assert_eq!(DataFolder::open(folder.path(), "j").expect("opened").generation(), 2);
    }

    #[test]
    fn what_a_crash_left_beside_does_not_matter() {
        let folder = folder_with(&encode(7, "j"));
        fs::write(folder.path().join("generation.inprogress"), "half").expect("written");
        assert_eq!(DataFolder::open(folder.path(), "j").expect("opened").generation(), 8);
    }

    #[test]
    fn a_name_that_cannot_be_kept_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(refusal(folder.path(), "").contains("0 bytes"));
        assert!(refusal(folder.path(), &"x".repeat(5_000)).contains("5000 bytes"));
    }
}
