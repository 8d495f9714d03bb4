//! Back from a checkpoint: the newest one that is whole is found, and each worker takes its bins of it,
//! however many workers there are now.
//!
//! ```text
//!   manifests, newest first ─► readable? of this job? objects whole? ─► no: say so, try the one before
//!                                        │ yes
//!   each worker: objects, newest first ─► its bins ─► records of twins that it does not have yet
//! ```

use std::collections::HashSet;

use connectors::format::FormatError;
use connectors::parts::{self, PartError, PartReader};
use connectors::store::Store;
use operators::adaptation::{Adaptation, LayoutProblem};
use operators::id::BINS;
use operators::twin::{Twin, TwinType};
use tracing::warn;

use super::manifest::{CheckpointId, MANIFESTS, Manifest, id_of, manifest_name};
use crate::twins::Twins;

/// Why a run cannot go on from what is kept.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The store cannot be read.
    #[error("the checkpoints cannot be read: {0}; check that the store may be read")]
    Io(#[from] std::io::Error),
    /// There are checkpoints, and none is whole.
    #[error(
        "none of the {0} checkpoints is whole (the log says what is wrong with each); restore the folder from a \
         copy, or start with --fresh, which begins with empty twins"
    )]
    NoneWhole(usize),
    /// A manifest was written by a later version.
    #[error("checkpoint {id}: {error}, or start with --fresh, which begins with empty twins")]
    Newer {
        /// The checkpoint.
        id: CheckpointId,
        /// What is newer.
        error: FormatError,
    },
    /// The checkpoints are of another job.
    #[error("checkpoint {id} is of the job `{found}`, not of `{job}`; give `{job}` a data folder of its own")]
    OtherJob {
        /// The checkpoint.
        id: CheckpointId,
        /// The job that it is of.
        found: String,
        /// The job that is started.
        job: String,
    },
    /// The job has changed in a way that its twins do not survive.
    #[error("the twins of checkpoint {id} do not fit the job: {}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Layout {
        /// The checkpoint.
        id: CheckpointId,
        /// What does not fit.
        problems: Vec<LayoutProblem>,
    },
    /// An object is not as it was when it was verified.
    #[error("checkpoint {id}: {error}; start again, which falls back to the checkpoint before")]
    Part {
        /// The checkpoint.
        id: CheckpointId,
        /// What is wrong.
        error: PartError,
    },
    /// A record cannot be read.
    #[error(
        "checkpoint {id}: the record of twin `{twin}` cannot be read: {reason}; start with --fresh, which begins with empty twins, and report this"
    )]
    Record {
        /// The checkpoint.
        id: CheckpointId,
        /// The twin.
        twin: String,
        /// What is wrong.
        reason: String,
    },
}

/// A checkpoint that is whole.
#[derive(Debug)]
pub struct Found {
    /// What it consists of.
    pub manifest: Manifest,
    /// No later one was passed over for it.
    pub is_newest: bool,
}

/// The newest checkpoint of a job that is whole, if there is one. Those that are not are passed over, with
/// a line each.
pub fn find(store: &dyn Store, job: &str) -> Result<Option<Found>, RestoreError> {
    let names = store.list(MANIFESTS)?;
    let ids: Vec<CheckpointId> = names.iter().filter_map(|name| id_of(name)).collect();
    for id in ids.iter().rev() {
        let manifest = match Manifest::decode(&store.read(&manifest_name(*id))?) {
            Ok(manifest) => manifest,
            Err(error @ FormatError::Newer { .. }) => return Err(RestoreError::Newer { id: *id, error }),
            Err(error) => {
                warn!(checkpoint = %id, %error, "manifest not usable; falling back to the checkpoint before");
                continue;
            }
        };
        if manifest.job != job {
            return Err(RestoreError::OtherJob { id: *id, found: manifest.job, job: job.to_owned() });
        }
        let verified = manifest.objects().try_for_each(|part| parts::verify(store, part));
        match verified {
            Ok(()) => return Ok(Some(Found { manifest, is_newest: ids.last() == Some(id) })),
            Err(error) => {
                warn!(checkpoint = %id, %error, "checkpoint not whole; falling back to the one before");
            }
        }
    }
    match ids.len() {
        0 => Ok(None),
        number => Err(RestoreError::NoneWhole(number)),
    }
}

/// The checkpoint with this id, which another process has verified.
pub fn read(store: &dyn Store, id: CheckpointId) -> Result<Manifest, RestoreError> {
    let bytes = store.read(&manifest_name(id))?;
    Manifest::decode(&bytes).map_err(|error| std::io::Error::other(error.to_string()).into())
}

/// How records of a checkpoint become twins of the job as it is now. What is dropped is said.
pub fn adapt(manifest: &Manifest, types: &[TwinType]) -> Result<Adaptation, RestoreError> {
    let adapted = Adaptation::new(&manifest.layout, types);
    let (adaptation, warnings) =
        adapted.map_err(|problems| RestoreError::Layout { id: manifest.id, problems })?;
    for warning in warnings {
        warn!(checkpoint = %manifest.id, "{warning}");
    }
    Ok(adaptation)
}

/// Gives a worker the twins of the bins that it owns.
pub fn load(
    store: &dyn Store,
    manifest: &Manifest,
    adaptation: &Adaptation,
    owns: impl Fn(u16) -> bool,
    twins: &mut Twins,
) -> Result<(), RestoreError> {
    each(store, manifest, adaptation, owns, |id, twin| {
        twins.restore(id, twin);
        Ok(())
    })?;
    twins.restore_losses(manifest.sources.iter().map(|source| source.lost_us));
    if !adaptation.is_identity() {
        twins.mark_all();
    }
    Ok(())
}

/// Gives the twins of these bins, in the order of the bins.
pub fn each(
    store: &dyn Store,
    manifest: &Manifest,
    adaptation: &Adaptation,
    owns: impl Fn(u16) -> bool,
    mut give: impl FnMut(&str, Twin) -> Result<(), RestoreError>,
) -> Result<(), RestoreError> {
    let readers = open(store, manifest)?;
    let mut bins = (0..BINS as u16).filter(|bin| owns(*bin));
    bins.try_for_each(|bin| read_bin(&readers, manifest, adaptation, bin, &mut give))
}

/// The objects of a checkpoint, newest first.
fn open<'a>(store: &'a dyn Store, manifest: &Manifest) -> Result<Vec<PartReader<'a>>, RestoreError> {
    let objects = manifest.parts.iter().rev().map(|info| PartReader::open(store, info));
    objects.collect::<Result<_, _>>().map_err(|error| RestoreError::Part { id: manifest.id, error })
}

/// The newest record of a twin is met first, and is the one that counts.
fn read_bin(
    readers: &[PartReader<'_>],
    manifest: &Manifest,
    adaptation: &Adaptation,
    bin: u16,
    give: &mut impl FnMut(&str, Twin) -> Result<(), RestoreError>,
) -> Result<(), RestoreError> {
    let id = manifest.id;
    let mut seen: HashSet<String> = HashSet::new();
    for (number, reader) in readers.iter().enumerate() {
        let block = reader.block(bin).map_err(|error| RestoreError::Part { id, error })?;
        let Some(block) = block else { continue };
        for record in parts::records(&block) {
            let (twin_id, bytes) = record.map_err(|error| RestoreError::Record {
                id,
                twin: String::new(),
                reason: error.to_string(),
            })?;
            if seen.contains(twin_id) {
                continue;
            }
            let twin = adaptation.restore(bytes).map_err(|error| RestoreError::Record {
                id,
                twin: twin_id.to_owned(),
                reason: error.to_string(),
            })?;
            give(twin_id, twin)?;
            // Nothing is older than the oldest.
            if number + 1 < readers.len() {
                seen.insert(twin_id.to_owned());
            }
        }
    }
    Ok(())
}
