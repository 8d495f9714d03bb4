//! What every store promises, and a folder that is crashed at each of its operations.

use std::path::Path;

use super::*;
use crate::disk::{Fault, SimDisk, SystemDisk};

fn folder_on(disk: &SimDisk) -> FolderStore {
    FolderStore::new(Arc::new(disk.clone()), "data/checkpoints".into())
}

/// What a store must do, whatever is underneath.
fn check(store: &dyn Store) {
    let kind = |result: io::Result<Vec<u8>>| result.expect_err("it must fail").kind();
    assert_eq!(store.list("").expect("an empty store"), [""; 0]);
    store.put("7/b.part", b"bytes").expect("room");
    store.put("7/a.part", b"").expect("room");
    store.put("70/a.part", b"other").expect("room");
    store.put("manifest-7", b"m").expect("room");
    for (prefix, expected) in [
        ("", &["7/a.part", "7/b.part", "70/a.part", "manifest-7"][..]),
        ("7", &["7/a.part", "7/b.part", "70/a.part"]),
        ("7/", &["7/a.part", "7/b.part"]),
        ("7/b", &["7/b.part"]),
        ("man", &["manifest-7"]),
        ("8/", &[]),
        ("manifest-7/x", &[]),
    ] {
        assert_eq!(store.list(prefix).expect("there"), expected, "{prefix}");
    }
    assert_eq!(store.read("7/b.part").expect("there"), b"bytes");
    assert_eq!(store.read("7/a.part").expect("there"), b"");
    assert_eq!(store.size("7/b.part").expect("there"), 5);
    assert_eq!(store.read_range("7/b.part", 1..4).expect("there"), b"yte");
    assert_eq!(store.read_range("7/b.part", 5..5).expect("there"), b"");
    assert_eq!(kind(store.read_range("7/b.part", 1..6)), io::ErrorKind::UnexpectedEof);
    assert_eq!(kind(store.read("7/c.part")), io::ErrorKind::NotFound);
    assert_eq!(kind(store.read_range("7/c.part", 0..1)), io::ErrorKind::NotFound);
    assert_eq!(store.size("7/c.part").expect_err("missing").kind(), io::ErrorKind::NotFound);
    for name in ["", "/", "/a", "a/", "a//b", "../a", "a/./b", ".a", "a\0"] {
        assert_eq!(kind(store.read(name)), io::ErrorKind::InvalidInput, "{name:?}");
        assert!(store.put(name, b"").is_err() && store.remove(name).is_err(), "{name:?}");
    }
    let mut writer = store.create("7/c.part").expect("room");
    writer.write_all(b"half").expect("room");
    assert_eq!(kind(store.read("7/c.part")), io::ErrorKind::NotFound);
    assert_eq!(store.list("7/").expect("there"), ["7/a.part", "7/b.part"]);
    drop(writer);
    assert_eq!(kind(store.read("7/c.part")), io::ErrorKind::NotFound);
    store.put("7/b.part", b"new").expect("room");
    assert_eq!(store.read("7/b.part").expect("there"), b"new");
    store.remove("7/b.part").expect("there");
    store.remove("7/b.part").expect("it was removed already");
    assert_eq!(kind(store.read("7/b.part")), io::ErrorKind::NotFound);
    store.clean().expect("nothing to do");
    assert_eq!(store.list("").expect("there"), ["7/a.part", "70/a.part", "manifest-7"]);
}

#[test]
fn a_folder_is_a_store() {
    let folder = tempfile::tempdir().expect("a folder");
    check(&FolderStore::new(Arc::new(SystemDisk), folder.path().join("a/b")));
    check(&folder_on(&SimDisk::new(1)));
}

#[test]
fn a_url_tells_the_store() {
    let disk = SimDisk::new(1);
    let open = |url: &str| open(url, Arc::new(disk.clone()));
    for (url, file) in [
        ("stores/one", "stores/one/a"),
        ("/stores/two", "/stores/two/a"),
        ("file:///stores/with%20space", "/stores/with space/a"),
    ] {
        open(url).map_err(|error| error.to_string()).expect(url).put("a", b"x").expect("room");
        assert_eq!(disk.read(Path::new(file)).expect(file), b"x");
    }
    for (url, part) in [("", "give a path"), ("http://a/b", "give a path"), ("file://host/a", "give a path")]
    {
        let error = open(url).err().expect("no store").to_string();
        assert!(error.contains(part), "{error}");
    }
    if cfg!(feature = "s3") {
        let error = open("s3:///prefix").err().expect("no bucket").to_string();
        assert!(error.contains("give a path"), "{error}");
    } else {
        let error = open("s3://bucket/prefix").err().expect("not built in").to_string();
        assert!(error.contains("build with `--features s3`"), "{error}");
    }
}

#[test]
fn an_object_is_whole_or_not_there_whenever_the_machine_goes_off() {
    let steps = |store: &FolderStore| -> io::Result<()> {
        store.put("1/a", b"first")?;
        store.put("1/a", b"and second")?;
        let mut writer = store.create("b")?;
        writer.write_all(b"part one, ")?;
        writer.write_all(b"part two")?;
        writer.finish()
    };
    let whole = SimDisk::new(0);
    steps(&folder_on(&whole)).expect("no fault");
    let operations = whole.operations();
    assert!(operations > 15);
    for at in 1..=operations + 1 {
        for seed in 0..20 {
            let disk = SimDisk::new(seed);
            disk.plan(Fault::PowerOff, at);
            let done = steps(&folder_on(&disk)).is_ok();
            assert_eq!(done, at > operations);
            let next = disk.crash();
            let store = folder_on(&next);
            store.clean().expect("it is on again");
            let names = store.list("").expect("it is on again");
            assert!(!done || names == ["1/a", "b"], "what was finished is durable");
            for name in names {
                let bytes = store.read(&name).expect("listed");
                let good: &[&[u8]] = match name.as_str() {
                    "1/a" if done => &[b"and second"],
                    "1/a" => &[b"first", b"and second"],
                    _ => &[b"part one, part two"],
                };
                assert!(good.contains(&&*bytes), "{name} is {bytes:?} at {at}, seed {seed}");
            }
            let leftovers = next.list(Path::new("data/checkpoints")).expect("on");
            assert!(!leftovers.iter().any(|path| crate::disk::is_unfinished(path)), "{leftovers:?}");
        }
    }
}

#[test]
fn what_fails_leaves_nothing_and_the_disk_is_usable_again() {
    for (fault, nth) in [(Fault::WriteFails, 1), (Fault::WriteFails, 2), (Fault::SyncFails, 1)] {
        let disk = SimDisk::new(3);
        let store = folder_on(&disk);
        store.put("a", b"old").expect("room");
        let put = || {
            let mut writer = store.create("a")?;
            disk.plan(fault, nth);
            writer.write_all(b"new").and_then(|()| writer.write_all(b"er"))?;
            writer.finish()
        };
        put().expect_err("planned");
        assert_eq!(disk.list(Path::new("data/checkpoints")).expect("on").len(), 1, "{fault:?}");
        assert_eq!(store.read("a").expect("the old one"), b"old");
        store.put("a", b"newer").expect("no fault any more");
        assert_eq!(store.read("a").expect("there"), b"newer");
    }
    let disk = SimDisk::new(3);
    disk.limit(10);
    let store = folder_on(&disk);
    store.put("a", b"12345678").expect("room");
    assert_eq!(store.put("b", b"12345").expect_err("full").kind(), io::ErrorKind::StorageFull);
    assert_eq!(store.list("").expect("on"), ["a"]);
    store.put("b", b"12").expect("what did not fit is gone");
}
