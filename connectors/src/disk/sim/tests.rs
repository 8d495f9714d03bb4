//! The simulated disk against tables of what may be found, and against the machine's own disk.

use std::collections::BTreeSet;

use super::*;
use crate::disk::{SystemDisk, make_durable_folder, replace};

const SEEDS: u64 = 200;

/// Runs steps on many disks and tells what the machine may find of `f` after each went off.
fn found(steps: impl Fn(&SimDisk)) -> BTreeSet<Option<Vec<u8>>> {
    let crashed = (0..SEEDS).map(|seed| {
        let disk = SimDisk::new(seed);
        steps(&disk);
        disk.crash().read(Path::new("f")).ok()
    });
    crashed.collect()
}

fn write(disk: &SimDisk, path: &str, bytes: &[u8]) -> Box<dyn DiskFile> {
    let mut file = disk.create(Path::new(path)).expect("room");
    file.write_all(bytes).expect("room");
    file
}

fn durable(disk: &SimDisk, path: &str, bytes: &[u8]) -> Box<dyn DiskFile> {
    let mut file = write(disk, path, bytes);
    file.sync().expect("no fault");
    disk.sync_folder(Path::new("")).expect("no fault");
    file
}

fn check(steps: impl Fn(&SimDisk), expected: &[Option<&[u8]>]) {
    let expected: BTreeSet<_> = expected.iter().map(|bytes| bytes.map(<[u8]>::to_vec)).collect();
    assert_eq!(found(steps), expected);
}

#[test]
fn a_crash_leaves_what_is_durable_and_chance_decides_on_names() {
    check(|disk| drop(durable(disk, "f", b"ab")), &[Some(b"ab")]);
    // The content is synced, the name is not.
    check(|disk| write(disk, "f", b"ab").sync().expect("no fault"), &[None, Some(b"ab")]);
    // A replacement is the old or the new one, whole.
    check(
        |disk| {
            durable(disk, "f", b"old");
            write(disk, "g", b"new").sync().expect("no fault");
            disk.rename(Path::new("g"), Path::new("f")).expect("there");
        },
        &[Some(b"old"), Some(b"new")],
    );
    check(
        |disk| {
            durable(disk, "f", b"old");
            replace(disk, Path::new("f"), b"new").expect("no fault");
        },
        &[Some(b"new")],
    );
    check(
        |disk| {
            durable(disk, "f", b"old");
            disk.remove(Path::new("f")).expect("there");
        },
        &[None, Some(b"old")],
    );
    check(
        |disk| {
            durable(disk, "f", b"old");
            disk.remove(Path::new("f")).expect("there");
            disk.sync_folder(Path::new(".")).expect("no fault");
        },
        &[None],
    );
    check(
        |disk| {
            durable(disk, "f", b"abc");
            disk.truncate(Path::new("f"), 1).expect("there");
        },
        &[Some(b"a")],
    );
}

#[test]
fn of_an_unsynced_tail_a_prefix_survives_that_may_be_torn() {
    let steps = |disk: &SimDisk| durable(disk, "f", b"head").write_all(b"\xff\xff").expect("room");
    let found = found(steps);
    for tail in [&b""[..], b"\xff", b"\xff\xff", b"\x00", b"\xff\x00", b"\x00\x00"] {
        assert!(found.contains(&Some([b"head", tail].concat())), "{tail:?} is never found");
    }
    let flipped = |bytes: &Vec<u8>| bytes.iter().any(|byte| byte.count_ones() == 7);
    assert!(found.iter().flatten().any(flipped), "no bit is ever flipped");
    assert!(found.iter().all(|bytes| bytes.as_ref().is_some_and(|bytes| bytes.starts_with(b"head"))));
}

#[test]
fn a_file_that_is_emptied_may_come_back_until_it_is_synced() {
    let old = Some(b"old".to_vec());
    let emptied = |disk: &SimDisk| drop((durable(disk, "f", b"old"), write(disk, "f", b"")));
    assert_eq!(found(emptied), BTreeSet::from([Some(Vec::new()), old.clone()]));
    check(|disk| drop((durable(disk, "f", b"old"), durable(disk, "f", b"new"))), &[Some(b"new")]);
}

#[test]
fn a_folder_whose_name_was_lost_takes_its_files_along() {
    let disks = (0..SEEDS).map(|seed| {
        let disk = SimDisk::new(seed);
        disk.make_folder(Path::new("/a/b")).expect("no fault");
        write(&disk, "/a/b/f", b"x").sync().expect("no fault");
        disk.sync_folder(Path::new("/a/b")).expect("there");
        let crashed = disk.crash();
        (crashed.is_folder(Path::new("/a")).expect("on"), crashed.read(Path::new("/a/b/f")).is_ok())
    });
    assert_eq!(disks.collect::<BTreeSet<_>>(), [(false, false), (true, false), (true, true)].into());
    let disks = (0..SEEDS).map(|seed| {
        let disk = SimDisk::new(seed);
        make_durable_folder(&disk, Path::new("/a/b")).expect("no fault");
        make_durable_folder(&disk, Path::new("r/s")).expect("no fault");
        let crashed = disk.crash();
        ["/a/b", "r/s"].map(|folder| crashed.is_folder(Path::new(folder)).expect("on"))
    });
    assert_eq!(disks.collect::<BTreeSet<_>>(), [[true, true]].into());
}

#[test]
fn a_killed_process_leaves_all_it_wrote_and_its_handles_fail() {
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        let mut file = write(&disk, "f", b"ab");
        let next = disk.kill();
        assert_eq!(next.read(Path::new("f")).expect("there"), b"ab");
        assert!(file.write(b"c").is_err() && file.sync().is_err() && file.flush().is_err());
        assert!(disk.read(Path::new("f")).is_err() && disk.create(Path::new("g")).is_err());
        assert!(disk.list(Path::new("")).is_err() && disk.remove(Path::new("f")).is_err());
        assert!(next.append(Path::new("f")).expect("there").write(b"c").is_ok());
    }
    // What was not durable before the kill is not durable after it.
    let lost = (0..SEEDS).filter(|seed| {
        let disk = SimDisk::new(*seed);
        drop(write(&disk, "f", b"ab"));
        disk.kill().crash().read(Path::new("f")).is_err()
    });
    assert!((1..SEEDS as usize).contains(&lost.count()));
}

#[test]
fn faults_strike_at_their_time() {
    let code = |result: io::Result<()>| result.err().map(|error| error.raw_os_error().unwrap_or(-1));
    for (fault, expected) in [
        (Fault::WriteFails, [None, Some(ENOSPC), None, None]),
        // `write_all` goes on where a short write stopped, so that the write after it is the third.
        (Fault::ShortWrite, [None, None, None, None]),
        (Fault::SyncFails, [None, None, None, Some(EIO)]),
        (Fault::PowerOff, [Some(-1), Some(-1), Some(-1), Some(-1)]),
    ] {
        let disk = SimDisk::new(7);
        let mut file = disk.create(Path::new("f")).expect("no fault");
        disk.plan(fault, if fault == Fault::PowerOff { 1 } else { 2 });
        let first = code(file.write_all(b"one"));
        let second = code(file.write_all(b"two"));
        let sync = code(file.sync());
        assert_eq!([first, second, sync, code(file.sync())], expected, "{fault:?}");
        let writes = if fault == Fault::ShortWrite { 3 } else { 2 };
        if fault == Fault::PowerOff {
            assert_eq!((disk.writes(), disk.syncs(), disk.operations()), (1, 0, 2));
        } else {
            assert_eq!((disk.writes(), disk.syncs(), disk.operations()), (writes, 2, writes + 3));
        }
    }
}

#[test]
fn a_failed_sync_loses_bytes_that_reads_still_show() {
    let steps = |disk: &SimDisk| {
        let mut file = durable(disk, "f", b"ab");
        file.write_all(b"cd").expect("room");
        disk.plan(Fault::SyncFails, 1);
        file.sync().expect_err("planned");
        assert_eq!(disk.read(Path::new("f")).expect("there"), b"abcd");
        file.sync().expect("only one was planned");
        file
    };
    check(|disk| drop(steps(disk)), &[Some(b"ab"), Some(b"ab\0\0")]);
    let more = |disk: &SimDisk| {
        let mut file = steps(disk);
        file.write_all(b"ef").expect("room");
        file.sync().expect("no fault");
    };
    check(more, &[Some(b"ab\0\0ef")]);
}

#[test]
fn a_full_disk_takes_what_fits_and_has_room_again() {
    let disk = SimDisk::new(1);
    disk.limit(5);
    let mut file = write(&disk, "f", b"abc");
    assert_eq!(file.write(b"def").expect("two fit"), 2);
    assert_eq!(file.write(b"f").expect_err("full").raw_os_error(), Some(ENOSPC));
    assert_eq!(disk.read(Path::new("f")).expect("there"), b"abcde");
    disk.truncate(Path::new("f"), 1).expect("there");
    assert_eq!(file.write(b"xyzuv").expect("four fit"), 4);
}

#[test]
fn a_bit_is_flipped_for_good() {
    let disk = SimDisk::new(1);
    durable(&disk, "f", b"\0\0");
    disk.flip_bit(Path::new("f"), 11).expect("there");
    assert_eq!(disk.crash().read(Path::new("f")).expect("durable"), b"\0\x08");
    assert!(SimDisk::new(1).flip_bit(Path::new("f"), 0).is_err());
}

/// The machine's disk is the oracle: the same steps have the same results, and leave the same.
#[test]
fn without_faults_it_is_a_disk_like_the_machines() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let sim = SimDisk::new(3);
    sim.make_folder(root).expect("no fault");
    let disks: [&dyn Disk; 2] = [&SystemDisk, &sim];
    let mut chance = State::new(5);
    for step in 0..3000 {
        let names = ["a", "b", "d/a", "d/e/b", "d", "d/e", "none/a", "a/b"];
        let one = root.join(names[chance.below(names.len())]);
        let two = root.join(names[chance.below(4)]);
        let (action, size) = (chance.below(11), chance.below(9) as u64);
        let both = disks.map(|disk| {
            let done = match action {
                0 => disk.create(&one).and_then(|mut file| file.write_all(&vec![step as u8; size as usize])),
                1 => {
                    disk.append(&two).and_then(|mut file| file.write_all(b"more").and_then(|()| file.sync()))
                }
                2 => disk.read(&one).map(drop),
                3 if two != one => disk.rename(&one.with_file_name("a"), &two),
                4 => disk.remove(&two),
                5 if step % 7 == 0 => disk.make_folder(&root.join("d/e")),
                6 => disk.truncate(&two, size),
                7 => disk.sync_folder(&root.join("d")),
                8 => disk.sync_folder(root),
                9 => disk.read_range(&two, 1..size).map(drop),
                _ => disk.len(&two).map(drop),
            };
            let content = [disk.read(&two).ok(), disk.read_range(&two, 1..3).ok()];
            let lists = ["", "d", "d/e", "none"].map(|name| disk.list(&root.join(name)).expect("listed"));
            let folders = names.map(|name| disk.is_folder(&root.join(name)).expect("told"));
            (done.is_ok(), content, lists, folders)
        });
        assert_eq!(both[0], both[1], "step {step}: {action} {one:?} {two:?}");
    }
}
