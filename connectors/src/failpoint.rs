//! Places at which tests make the process die, or a step fail: one at every durable step, all of
//! them in one list, so that a crash suite can visit each.
//!
//! `TWINLOOM_FAILPOINT=journal.sync:3:abort` ends the process at the third time that a journal is
//! about to be synced. `TWINLOOM_FAILPOINT=event.poison:p-7:panic` is a bug that an event of one twin finds,
//! each time. Unset, a failpoint costs one load.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The environment variable that arms one: `<name>:<time>:<action>`.
pub const VARIABLE: &str = "TWINLOOM_FAILPOINT";

/// Declares the failpoints and their names, once.
macro_rules! failpoints {
    ($($(#[doc = $doc:literal])* $point:ident = $name:literal),* $(,)?) => {
        /// A place where a test may strike.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Failpoint {
            $($(#[doc = $doc])* $point),*
        }

        impl Failpoint {
            /// All of them.
            pub const ALL: &[Failpoint] = &[$(Failpoint::$point),*];

            /// Its name in the variable.
            pub fn name(self) -> &'static str {
                match self {
                    $(Failpoint::$point => $name),*
                }
            }
        }
    };
}

failpoints! {
    /// The generation is about to be raised.
    Generation = "generation",
    /// Messages are about to be written to a journal.
    JournalAppend = "journal.append",
    /// Written messages are about to be synced.
    JournalSync = "journal.sync",
    /// Messages are durable, and not acknowledged yet.
    JournalAcknowledge = "journal.acknowledge",
    /// A new file of a journal is about to be made.
    JournalFile = "journal.file",
    /// A file of a journal that is no longer needed is about to be removed.
    JournalRemove = "journal.remove",
    /// What a source remembers of its session at the broker is about to be replaced.
    JournalSession = "journal.session",
    /// Rows are about to be written to a segment of the archive.
    SegmentAppend = "segment.append",
    /// Segments are about to be synced for a checkpoint.
    SegmentSync = "segment.sync",
    /// A Parquet file is about to be made from committed segments.
    ParquetWrite = "parquet.write",
    /// A Parquet file is complete, and about to become visible.
    ParquetRename = "parquet.rename",
    /// A Parquet file is visible, and its segments are about to be removed.
    ParquetRemove = "parquet.remove",
    /// State is about to be written to an object of a checkpoint.
    PartWrite = "part.write",
    /// An object of a checkpoint is about to be completed.
    PartFinish = "part.finish",
    /// All parts are there, and the manifest is about to be written.
    ManifestWrite = "manifest.write",
    /// The manifest is there, and nobody knows yet.
    ManifestCommitted = "manifest.committed",
    /// Deltas are about to be merged.
    Compaction = "compaction",
    /// Checkpoints that are no longer needed are about to be removed.
    CheckpointRemove = "checkpoint.remove",
    /// An outbox is about to be completed.
    OutboxFinish = "outbox.finish",
    /// A transaction that sends an outbox is about to begin.
    TransactionBegin = "transaction.begin",
    /// A message of an outbox is about to be sent.
    TransactionSend = "transaction.send",
    /// All messages of an outbox are sent, and the marker is about to be.
    TransactionMarker = "transaction.marker",
    /// The marker is sent, and the transaction is about to be committed.
    TransactionCommit = "transaction.commit",
    /// The transaction is committed, and nobody knows yet.
    TransactionCommitted = "transaction.committed",
}

/// What an armed failpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Ends the process at once, as `kill -9` does.
    Abort,
    /// Panics, as a bug would.
    Panic,
    /// The step fails with this error of the system.
    Error(i32),
}

struct Armed {
    point: Failpoint,
    /// Counted down; it strikes at 1, and at each time from then on where it is an error.
    left: AtomicU64,
    action: Action,
}

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

fn armed() -> Option<&'static Armed> {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    ARMED.get_or_init(|| std::env::var(VARIABLE).ok().and_then(|text| parse(&text))).as_ref()
}

/// A text that is none arms nothing: it is for tests, which see that nothing strikes.
fn parse(text: &str) -> Option<Armed> {
    let mut parts = text.split(':');
    let (name, time, action) = (parts.next()?, parts.next()?, parts.next()?);
    let point = *Failpoint::ALL.iter().find(|point| point.name() == name)?;
    let action = match action {
        "abort" => Action::Abort,
        "panic" => Action::Panic,
        "enospc" => Action::Error(ENOSPC),
        "eio" => Action::Error(EIO),
        _ => return None,
    };
    Some(Armed { point, left: AtomicU64::new(time.parse().ok()?), action })
}

/// The id of a twin whose events are to make the process die, in tests of what it then does.
pub fn poisoned() -> Option<&'static str> {
    static POISONED: OnceLock<Option<String>> = OnceLock::new();
    let read = || {
        let text = std::env::var(VARIABLE).ok()?;
        text.strip_prefix("event.poison:")?.strip_suffix(":panic").map(str::to_owned)
    };
    POISONED.get_or_init(read).as_deref()
}

/// Passes a failpoint; an error where a test wants this step to fail.
pub fn hit(point: Failpoint) -> io::Result<()> {
    match armed() {
        Some(armed) if armed.point == point => strike(armed),
        _ => Ok(()),
    }
}

#[cold]
fn strike(armed: &Armed) -> io::Result<()> {
    let left = armed.left.load(Ordering::SeqCst);
    if left > 1 {
        armed.left.store(left - 1, Ordering::SeqCst);
        return Ok(());
    }
    match armed.action {
        Action::Abort => std::process::abort(),
        Action::Panic => panic!("failpoint {}", armed.point.name()),
        Action::Error(code) => Err(io::Error::from_raw_os_error(code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failpoint_is_named_with_its_time_and_action() {
        let show =
            |text: &str| parse(text).map(|one| (one.point, one.left.load(Ordering::SeqCst), one.action));
        assert_eq!(show("journal.sync:3:abort"), Some((Failpoint::JournalSync, 3, Action::Abort)));
        assert_eq!(show("part.write:1:enospc"), Some((Failpoint::PartWrite, 1, Action::Error(ENOSPC))));
        for text in ["", "journal.sync", "nowhere:1:abort", "journal.sync:x:abort", "journal.sync:1:sing"] {
            assert_eq!(show(text), None, "{text}");
        }
    }

    #[test]
    fn it_strikes_at_its_time() {
        let armed = parse("compaction:3:eio").expect("good");
        let struck: Vec<_> = (0..5).map(|_| strike(&armed).is_err()).collect();
        assert_eq!(struck, [false, false, true, true, true]);
    }
}
