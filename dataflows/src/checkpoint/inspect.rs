//! Looking at checkpoints without running the job: for the command line.

use connectors::format::FormatError;
use connectors::parts;
use connectors::store::Store;
use operators::twin::{Twin, TwinType};

use super::manifest::{CheckpointId, MANIFESTS, Manifest, id_of, manifest_name};
use super::restore::{self, RestoreError};

/// A checkpoint, and its manifest or what is wrong with it.
pub type Listed = (CheckpointId, Result<Manifest, FormatError>);

/// All checkpoints in a store, oldest first.
pub fn list(store: &dyn Store) -> Result<Vec<Listed>, RestoreError> {
    let ids = store.list(MANIFESTS)?.into_iter().filter_map(|name| id_of(&name));
    ids.map(|id| Ok((id, Manifest::decode(&store.read(&manifest_name(id))?)))).collect()
}

/// Reads all of a checkpoint; what is wrong with it, if something is.
pub fn verify(store: &dyn Store, manifest: &Manifest) -> Result<(), RestoreError> {
    let verified = manifest.objects().try_for_each(|part| parts::verify(store, part));
    verified.map_err(|error| RestoreError::Part { id: manifest.id, error })
}

/// Gives every twin of a checkpoint, as the job is now, in the order of their bins.
pub fn twins(
    store: &dyn Store,
    manifest: &Manifest,
    types: &[TwinType],
    give: impl FnMut(&str, Twin) -> Result<(), RestoreError>,
) -> Result<(), RestoreError> {
    let adaptation = restore::adapt(manifest, types)?;
    restore::each(store, manifest, &adaptation, |_| true, give)
}
