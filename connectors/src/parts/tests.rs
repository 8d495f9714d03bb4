//! Objects against their golden bytes, every cut and flipped bit, a naive merge, and a machine that
//! goes off at each operation.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::disk::{Disk, Fault, SimDisk};
use crate::store::{FolderStore, Store};

/// Records of bins: what an object says, by id.
type Naive = BTreeMap<u16, BTreeMap<String, Vec<u8>>>;

fn store_on(disk: &SimDisk) -> FolderStore {
    FolderStore::new(Arc::new(disk.clone()), "parts".into())
}

fn store() -> FolderStore {
    store_on(&SimDisk::new(1))
}

fn naive(records: &[(u16, &str, &[u8])]) -> Naive {
    let mut naive = Naive::new();
    for (bin, id, bytes) in records {
        naive.entry(*bin).or_default().insert(id.to_string(), bytes.to_vec());
    }
    naive
}

fn small() -> Naive {
    naive(&[(3, "press-1", b"one"), (3, "", b""), (65_535, "püre", b"\0\xff"), (0, "x", b"0")])
}

fn write(store: &dyn Store, name: &str, bins: &Naive) -> io::Result<PartInfo> {
    let mut writer = PartWriter::begin(store, name)?;
    // From the last bin on: the order in which they come is the writer's affair.
    for (bin, records) in bins.iter().rev() {
        let mut block = Vec::new();
        for (id, bytes) in records {
            push_record(&mut block, id, |record| record.extend_from_slice(bytes));
        }
        writer.block(*bin, records.len() as u32, &block)?;
    }
    writer.finish()
}

fn read(store: &dyn Store, info: &PartInfo) -> Result<Naive, PartError> {
    let reader = PartReader::open(store, info)?;
    let mut found = Naive::new();
    for bin in reader.bins() {
        let block = reader.block(bin)?.expect("a bin that is listed");
        for record in records(&block) {
            let (id, bytes) = record.map_err(|source| PartError::format(&info.name, source))?;
            let twice = found.entry(bin).or_default().insert(id.to_owned(), bytes.to_vec());
            assert_eq!(twice, None, "{id} is there twice");
        }
    }
    Ok(found)
}

#[test]
fn an_object_reads_back_by_bin() {
    let store = store();
    for bins in [Naive::new(), small(), naive(&[(7, "a", b"")])] {
        let info = write(&store, "1/a.part", &bins).expect("room");
        assert_eq!(info.bytes, store.size("1/a.part").expect("there"));
        assert_eq!(info.records, bins.values().map(|records| records.len() as u64).sum::<u64>());
        assert_eq!(read(&store, &info).expect("good"), bins);
        verify(&store, &info).expect("good");
        assert_eq!(PartReader::open(&store, &info).expect("good").block(8).expect("good"), None);
        let json = serde_json::to_string(&info).expect("plain");
        assert_eq!(serde_json::from_str::<PartInfo>(&json).expect("its own"), info);
    }
}

/// More bins than the first read of the end holds, down to those that just fit.
#[test]
fn an_index_may_be_longer_than_the_first_read() {
    let store = store();
    for count in [2518, 2519, 2520, 2521, 6000] {
        let bins: Naive = (0..count).map(|bin| (bin, BTreeMap::from([(bin.to_string(), vec![7])]))).collect();
        let info = write(&store, "many", &bins).expect("room");
        assert_eq!(read(&store, &info).expect("good"), bins, "{count} bins");
        verify(&store, &info).expect("good");
    }
}

#[test]
fn a_record_costs_six_bytes_beside_its_own() {
    let mut block = Vec::new();
    push_record(&mut block, &"i".repeat(ID_BYTES_MAX), |record| record.extend([1; 1000]));
    assert_eq!(block.len(), ID_BYTES_MAX + 1000 + 6);
    assert_eq!(records(&block).map(|one| one.expect("good").1.len()).collect::<Vec<_>>(), [1000]);
}

#[test]
fn a_bin_that_comes_twice_is_refused() {
    let store = store();
    let mut writer = PartWriter::begin(&store, "a").expect("room");
    let mut block = Vec::new();
    push_record(&mut block, "x", |_| {});
    writer.block(1, 1, &block).expect("room");
    assert_eq!(writer.block(1, 1, &block).expect_err("twice").kind(), io::ErrorKind::InvalidInput);
    drop(writer);
    assert_eq!(store.list("").expect("on"), [""; 0]);
}

#[test]
fn the_golden_object_is_still_written_and_read() {
    let store = store();
    let info = write(&store, "golden", &small()).expect("room");
    let bytes = store.read("golden").expect("there");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let golden = [
        "74776c2d7061727401000000",                             // head
        "05000200000070c3bc726500ff",                           // bin 65535: püre
        "00000000000007000300000070726573732d316f6e65",         // bin 3: an empty one, press-1
        "0100010000007830",                                     // bin 0: x
        "0000010000002f00000000000000080000000000000000cfeba3", // index: bin 0
        "0300020000001900000000000000160000000000000011327b3d", // bin 3
        "ffff010000000c000000000000000d00000000000000259b3c46", // bin 65535
        "4e00000055a30dc6706172742d656e64",                     // index length, checksum, closing magic
    ];
    assert_eq!(hex(&bytes), golden.concat());
    assert_eq!((info.bytes, info.records, info.checksum), (149, 4, 0xc60d_a355));
}

#[test]
fn every_cut_and_every_flipped_bit_is_noticed() {
    let store = store();
    let info = write(&store, "good", &small()).expect("room");
    let good = store.read("good").expect("there");
    let bad = PartInfo { name: "bad".into(), ..info };
    let check = |bytes: &[u8], what: &str| {
        store.put("bad", bytes).expect("room");
        for result in [verify(&store, &bad), read(&store, &bad).map(drop)] {
            match result.expect_err(what) {
                PartError::Format { .. } => {}
                error => panic!("{what}: {error}"),
            }
        }
    };
    for len in 0..good.len() {
        check(&good[..len], &format!("cut to {len}"));
    }
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        check(&bytes, &format!("bit {bit}"));
    }
    store.put("bad", &[&good[..], b"more"].concat()).expect("room");
    verify(&store, &bad).expect_err("it is longer");
    store.put("bad", &good).expect("room");
    verify(&store, &bad).expect("it is good again");
}

#[test]
fn an_object_is_the_one_that_is_meant() {
    let store = store();
    let info = write(&store, "a", &small()).expect("room");
    let other = write(&store, "b", &naive(&[(1, "a", b"x")])).expect("room");
    for (meant, part) in [
        (PartInfo { name: "b".into(), ..info.clone() }, "cut off"),
        (PartInfo { name: "b".into(), bytes: other.bytes, ..info.clone() }, "not the one"),
        (PartInfo { name: "c".into(), ..info.clone() }, "missing"),
        (PartInfo { bytes: 0, ..info.clone() }, "too small"),
        (PartInfo { records: 5, ..info.clone() }, "contradicts"),
        (PartInfo { checksum: 1, ..info.clone() }, "not the one"),
        (PartInfo { bytes: u64::MAX, ..info.clone() }, "cut off"),
    ] {
        let error = PartReader::open(&store, &meant).err().expect(part).to_string();
        assert!(error.contains(part) && error.contains("older checkpoint"), "{error}");
    }
}

/// Blocks that were framed wrongly, or counted wrongly, have good checksums all the same.
#[test]
fn verify_looks_into_the_records() {
    let store = store();
    let mut good = Vec::new();
    push_record(&mut good, "id", |record| record.push(1));
    for (count, block, part) in [
        (2, good.clone(), "has 1 records, and 2"),
        (1, good[..good.len() - 1].to_vec(), "is cut off"),
        (1, good[..5].to_vec(), "is cut off"),
        (1, [&[1, 0, 0xff, 0xff, 0xff, 0xff], &good[..]].concat(), "is cut off"),
        (1, [&[1, 1, 0, 0, 0, 0], &[b'i'; 300][..]].concat(), "too long"),
        (1, [&[1, 0, 0, 0, 0, 0], &[0xff][..]].concat(), "no text"),
    ] {
        let mut writer = PartWriter::begin(&store, "a").expect("room");
        writer.block(0, count, &block).expect("room");
        let info = writer.finish().expect("room");
        let error = verify(&store, &info).expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
        if part != "has 1 records, and 2" {
            assert!(merge(&store, &[info], "b").expect_err(part).to_string().contains("`a`"));
        }
    }
}

/// A small generator, so that a failure is found again by its seed.
fn chance(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |bound| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    }
}

#[test]
fn merged_objects_have_the_newest_record_of_each_id() {
    for seed in 0..300 {
        let store = store();
        let mut below = chance(seed);
        let (mut infos, mut expected) = (Vec::new(), Naive::new());
        for part in 0..below(6) {
            let mut bins = Naive::new();
            for _ in 0..below(40) {
                let (bin, id) = (below(5) as u16 * 9000, format!("twin-{}", below(12)));
                let bytes = vec![part as u8; below(5) as usize];
                bins.entry(bin).or_default().insert(id.clone(), bytes.clone());
                expected.entry(bin).or_default().insert(id, bytes);
            }
            infos.push(write(&store, &format!("{part}.part"), &bins).expect("room"));
        }
        let merged = merge(&store, &infos, "merged").expect("good parts");
        verify(&store, &merged).expect("good");
        assert_eq!(read(&store, &merged).expect("good"), expected, "seed {seed}");
        let again = merge(&store, &infos, "again").expect("good parts");
        assert_eq!((again.bytes, again.checksum), (merged.bytes, merged.checksum), "seed {seed}");
    }
}

#[test]
fn a_merge_of_damaged_objects_makes_nothing() {
    let disk = SimDisk::new(1);
    let store = store_on(&disk);
    let infos = ["a", "b"].map(|name| write(&store, name, &small()).expect("room"));
    disk.flip_bit(Path::new("parts/b"), 8 * 20).expect("there");
    let error = merge(&store, &infos, "merged").expect_err("damaged").to_string();
    assert!(error.contains("`b`") && error.contains("checksum"), "{error}");
    assert_eq!(store.list("").expect("on"), ["a", "b"]);
    assert_eq!(disk.list(Path::new("parts")).expect("on").len(), 2);
}

/// Runs on disks that go off, or fail, at each operation: an object is whole or not there.
#[test]
fn an_object_is_whole_or_not_there_whatever_happens() {
    let newer = naive(&[(3, "press-1", b"two"), (4, "press-2", b"two")]);
    let steps = |store: &dyn Store| -> Result<PartInfo, PartError> {
        let failed = |error| PartError::of("", error);
        let parts =
            [write(store, "a", &small()).map_err(failed)?, write(store, "b", &newer).map_err(failed)?];
        merge(store, &parts, "c")
    };
    let whole = SimDisk::new(0);
    let merged = steps(&store_on(&whole)).expect("no fault");
    let infos: Vec<PartInfo> = [small(), newer.clone()]
        .iter()
        .zip(["a", "b"])
        .map(|(bins, name)| write(&store(), name, bins).expect("room"))
        .chain([merged])
        .collect();
    let operations = whole.operations();
    assert!(operations > 12);
    for fault in [Fault::PowerOff, Fault::SyncFails, Fault::WriteFails, Fault::ShortWrite] {
        for (at, seed) in (1..=operations + 1).flat_map(|at| (0..20).map(move |seed| (at, seed))) {
            let disk = SimDisk::new(seed);
            disk.plan(fault, at);
            let done = steps(&store_on(&disk));
            for next in [disk.kill(), disk.kill().crash()] {
                let store = store_on(&next);
                let names = store.list("").expect("it is on again");
                assert!(done.is_err() || names == ["a", "b", "c"], "what was finished is durable");
                for info in infos.iter().filter(|info| names.contains(&info.name)) {
                    verify(&store, info).unwrap_or_else(|error| panic!("{fault:?} {at} {seed}: {error}"));
                }
            }
        }
    }
}
