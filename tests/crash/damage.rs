//! Disks that are full or fail, durable files that were changed, folders that are not ours: each is one
//! clear message, and once it is repaired nothing that was acknowledged is lost.
//!
//! ```text
//!   run, stop by kill -9 ──► damage ──► the run refuses, or falls back and says so ──► repair ──► oracle
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::fleet::{self, Armed, Fleet};
use crate::harness::archive::files;
use crate::harness::until;

/// Where a data folder has its checkpoints, and in them the files that make each complete.
const CHECKPOINTS: &str = "checkpoints";
const MANIFESTS: &str = "checkpoints/manifests";

/// A disk that refuses while a run is on: it ends with one line that says what failed, and the next run
/// goes on where it was.
#[test]
fn a_disk_that_fails_ends_the_run() {
    const FULL: &str = "No space left on device";
    const BROKEN: &str = "Input/output error";
    for (failpoint, words) in [
        ("journal.append:5:enospc", FULL),
        ("journal.file:1:enospc", FULL),
        ("journal.sync:5:eio", BROKEN),
        ("segment.append:2:enospc", FULL),
        ("segment.sync:2:eio", BROKEN),
        ("part.write:1:enospc", FULL),
        ("part.finish:1:eio", BROKEN),
        ("manifest.write:1:enospc", FULL),
        ("generation:1:enospc", FULL),
    ] {
        let fleet = Fleet::new(1);
        let (run, load) = fleet.begin(1);
        load.until_more(200);
        fleet::kill(run, 0);
        let armed = Armed { process: 0, failpoint: failpoint.to_owned() };
        let line = fleet.start_alone(&[armed]).wait().failed();
        assert!(line.contains(words), "{failpoint}: {line}");
        let verdict = fleet.verdict_of_begin(&load.sent());
        assert!(verdict.is_good(), "{failpoint}: {}", verdict.show());
        let run = fleet.start(&[]);
        let sent = load.finish();
        let verdict = fleet.end(run, &sent);
        assert!(verdict.is_good(), "{failpoint}: {}", verdict.show());
    }
}

/// What the next start does about a damage.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// It ends by itself with an error that has these words.
    Refuses(&'static str),
    /// It warns with the name of the damaged checkpoint, and goes on from the one before.
    FallsBack,
    /// It names the damaged file, and goes on or not; at the latest when it is stopped it ends with an error.
    OwnsUp,
}

/// A damage: its name, the file or folder that it does something to, what it does, and the answer.
type Damage = (&'static str, fn(&Path) -> Option<PathBuf>, fn(&Path), Answer);

#[test]
fn a_damaged_file_is_named() {
    let damages: &[Damage] = &[
        ("a manifest cut in half", newest_manifest, cut_in_half, Answer::FallsBack),
        ("a flipped bit in a manifest", newest_manifest, flip_a_bit, Answer::FallsBack),
        ("an empty manifest", newest_manifest, |path| write(path, &[]), Answer::FallsBack),
        ("a flipped bit in a part", newest_part, flip_a_bit, Answer::FallsBack),
        ("a part cut in half", newest_part, cut_in_half, Answer::FallsBack),
        ("a part that is gone", newest_part, |path| fs::remove_file(path).expect("ours"), Answer::FallsBack),
        ("a manifest of a newer version", newest_manifest, raise_version, Answer::Refuses("newer version")),
        ("a flipped bit in the journal", oldest_journal, flip_a_bit, Answer::Refuses("damaged")),
        ("a journal of a newer version", oldest_journal, raise_version, Answer::Refuses("newer version")),
        ("a flipped bit in a segment", open_segment, flip_an_early_bit, Answer::OwnsUp),
        ("a flipped bit in the generation", generation, flip_a_bit, Answer::Refuses("damaged")),
    ];
    for damage in damages {
        check(damage);
    }
}

fn check((name, find, damage, answer): &Damage) {
    let fleet = Fleet::new(1);
    let (run, load) = fleet.begin(2);
    load.until_more(300);
    // There must be something to fall back to, and something behind it.
    until_checkpoints(&fleet.data(), 2);
    // What is to be damaged stands there most of the time, and not at every instant.
    let mut run = run;
    let path = loop {
        until("something to damage", || find(&fleet.data()));
        fleet::kill(run, 0);
        match find(&fleet.data()) {
            Some(path) => break path,
            None => run = fleet.start(&[]),
        }
    };
    let saved = Saved::of(&path);
    damage(&path);
    let file = said_of(&path);

    let mut run = fleet.start_alone(&[]);
    let run = match answer {
        Answer::Refuses(words) => {
            let line = run.wait().failed();
            assert!(line.contains(words) && line.contains(&file), "{name}, {file}: {line}");
            saved.restore();
            fleet.start(&[])
        }
        Answer::OwnsUp => {
            until(&format!("{file} in the log"), || run.log().contains(&file).then_some(()));
            run.signal("TERM");
            let line = run.wait().failed();
            assert!(line.contains(&file), "{name}, {file}: {line}");
            saved.restore();
            fleet.start(&[])
        }
        Answer::FallsBack => {
            run.until_logged(&file);
            let warned = run.log().lines().any(|line| line.contains("WARN") && line.contains(&file));
            assert!(warned, "{name}, {file}: {}", run.log());
            vec![run]
        }
    };
    let sent = load.finish();
    let verdict = fleet.end(run, &sent);
    assert!(verdict.is_good(), "{name}: {}", verdict.show());
}

/// How messages name a file: a checkpoint by its generation and number, all others by their names.
fn said_of(path: &Path) -> String {
    let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
    let numbers = name.split(['-', '.']).take(2).map(str::parse);
    match numbers.collect::<Result<Vec<u64>, _>>().as_deref() {
        Ok([generation, number]) if is_of_checkpoint(path) => format!("{generation}-{number}"),
        _ => name,
    }
}

#[test]
fn files_are_named_as_messages_do() {
    for (path, expected) in [
        ("data/checkpoints/manifests/0000000003-0000000012.manifest", "3-12"),
        ("data/checkpoints/parts/3-12-0.part", "3-12"),
        ("data/journal/plant/00000000000000000001.journal", "00000000000000000001.journal"),
        ("data/segments/3-0-1-state.segment", "3-0-1-state.segment"),
        ("data/generation", "generation"),
    ] {
        assert_eq!(said_of(Path::new(path)), expected, "{path}");
    }
}

/// Folders that cannot be used: another job's checkpoints, one that may not be written, one in use.
#[test]
fn a_folder_that_is_not_ours_is_refused() {
    let fleet = Fleet::new(1);
    let (run, load) = fleet.begin(3);
    load.until_more(300);
    // The second engine is refused, and the first does not notice.
    let line = fleet.start_alone(&[]).wait().failed();
    assert!(line.contains(&format!("in use by process {}", run[0].id())), "{line}");
    load.until_more(300);
    fleet::stop(run);

    let other = Fleet::named("other");
    let (run, other_load) = other.begin(4);
    other_load.until_more(100);
    fleet::stop(run);
    let saved = Saved::of(&fleet.data().join(CHECKPOINTS));
    saved.remove();
    Saved::of(&other.data().join(CHECKPOINTS)).restore_to(&other.data(), &fleet.data());
    let run = fleet.start_alone(&[]);
    let line = run.wait().failed();
    assert!(line.contains("`other`") && line.contains("`crash`"), "{line}");
    Saved::of(&fleet.data().join(CHECKPOINTS)).remove();
    saved.restore();

    let sent = load.finish();
    let verdict = fleet.end(fleet.start(&[]), &sent);
    assert!(verdict.is_good(), "{}", verdict.show());
}

/// Not even root may write below `/sys`; others are kept out by the folder's permissions anyway.
#[test]
fn a_read_only_data_folder_is_refused() {
    let fleet = Fleet::new(1);
    let arguments = ["run", "job.yaml", "--json", "--data", "/sys/twinloom"];
    let line = crate::harness::program::run(fleet.site.path(), &arguments).failed();
    assert!(line.contains("/sys/twinloom"), "{line}");
}

/// Files as they were before a damage.
struct Saved(BTreeMap<PathBuf, Vec<u8>>);

impl Saved {
    /// A file, or all files below a folder.
    fn of(path: &Path) -> Self {
        let paths = if path.is_dir() { files(path) } else { vec![path.to_owned()] };
        let read = |path: PathBuf| (path.clone(), fs::read(path).expect("the folder is ours"));
        Self(paths.into_iter().map(read).collect())
    }

    fn restore(&self) {
        self.0.iter().for_each(|(path, bytes)| write(path, bytes));
    }

    fn restore_to(&self, from: &Path, to: &Path) {
        for (path, bytes) in &self.0 {
            let path = to.join(path.strip_prefix(from).expect("it was found below"));
            fs::create_dir_all(path.parent().expect("a file has a folder")).expect("the folder is ours");
            write(&path, bytes);
        }
    }

    fn remove(&self) {
        self.0.keys().for_each(|path| fs::remove_file(path).expect("the folder is ours"));
    }
}

fn manifests(data: &Path) -> Vec<PathBuf> {
    files(&data.join(MANIFESTS)).into_iter().filter(|path| !is_hidden(path)).collect()
}

/// Waits until this many more checkpoints are complete.
fn until_checkpoints(data: &Path, number: usize) {
    for _ in 0..number {
        let newest = manifests(data).pop();
        until("a checkpoint", || (manifests(data).pop() != newest).then_some(()));
    }
}

fn newest_manifest(data: &Path) -> Option<PathBuf> {
    manifests(data).pop()
}

/// The last object of state that the newest checkpoint wrote; a newer one is of none yet.
fn newest_part(data: &Path) -> Option<PathBuf> {
    let complete = changed_at(&newest_manifest(data)?);
    let is_part = |path: &PathBuf| {
        !path.starts_with(data.join(MANIFESTS)) && !is_hidden(path) && changed_at(path) <= complete
    };
    let parts = files(&data.join(CHECKPOINTS)).into_iter().filter(is_part);
    parts.max_by_key(changed_at)
}

/// Behind it there are newer ones, so that no part of it is a tail that was torn.
fn oldest_journal(data: &Path) -> Option<PathBuf> {
    let mut journals = files(data).into_iter().filter(|path| has_end(path, "journal"));
    journals.next()
}

/// One with rows that are in the newest checkpoint and wait for their file.
fn open_segment(data: &Path) -> Option<PathBuf> {
    let manifest = fs::read(newest_manifest(data)?).expect("ours");
    let manifest: serde_json::Value =
        serde_json::from_slice(&manifest[MANIFEST_HEAD..]).expect("it is whole");
    let writers = manifest["archive"].as_array().expect("a list").iter();
    let mut open = writers.flat_map(|writer| writer["segments"].as_array().expect("a list"));
    let name = open.next().and_then(|segment| segment["name"].as_str())?;
    Some(data.join("segments").join(name))
}

/// Before the JSON of a manifest: magic, version, length, checksum.
const MANIFEST_HEAD: usize = 20;

fn generation(data: &Path) -> Option<PathBuf> {
    Some(data.join("generation"))
}

fn changed_at(path: &PathBuf) -> SystemTime {
    fs::metadata(path).and_then(|known| known.modified()).expect("the folder is ours")
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

fn is_of_checkpoint(path: &Path) -> bool {
    has_end(path, "manifest") || has_end(path, "part")
}

fn has_end(path: &Path, end: &str) -> bool {
    path.extension().is_some_and(|found| found == end)
}

fn cut_in_half(path: &Path) {
    let bytes = fs::read(path).expect("the folder is ours");
    write(path, &bytes[..bytes.len() / 2]);
}

fn flip_a_bit(path: &Path) {
    let bytes = fs::read(path).expect("the folder is ours");
    flip_a_bit_at(path, bytes.len() / 2);
}

/// In the first frame, which was complete before any other.
fn flip_an_early_bit(path: &Path) {
    flip_a_bit_at(path, 30);
}

fn flip_a_bit_at(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("the folder is ours");
    bytes[at] ^= 0x10;
    write(path, &bytes);
}

/// The version stands behind eight bytes of magic, little-endian (rule 7.7).
fn raise_version(path: &Path) {
    let mut bytes = fs::read(path).expect("the folder is ours");
    bytes[8] += 1;
    write(path, &bytes);
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("the folder is ours");
}
