//! The journal on a real folder: its bytes, its torn ends, its bounds, and how it goes on after them.

mod faults;
mod sharing;

use super::*;
use crate::disk::SystemDisk;
use crate::message::RawMessage;
use bytes::Bytes;
use std::fs;
use tempfile::TempDir;

fn setup(folder: &Path) -> JournalSetup {
    JournalSetup {
        name: "press".into(),
        folder: folder.to_owned(),
        disk: Arc::new(SystemDisk),
        settings: JournalSettings::default(),
        alarm: Arc::default(),
        waker: Arc::new(|| {}),
        headers: Vec::new(),
    }
}

/// Small files, so that a few records begin a new one.
fn small(folder: &Path) -> JournalSetup {
    let settings = JournalSettings { size: ByteSize::kb(4), file: ByteSize::kb(1) };
    JournalSetup { settings, ..setup(folder) }
}

type Kept = Vec<(u64, Record)>;

fn open(setup: JournalSetup) -> Result<(Journal, Kept), JournalError> {
    let mut kept = Kept::new();
    let journal = Journal::open(setup, |position, record| kept.push((position, record.clone())))?;
    Ok((journal, kept))
}

fn opened(setup: JournalSetup) -> (Journal, Kept) {
    open(setup).expect("a journal that can be opened")
}

fn message(packet_id: u16, topic: &str, payload: &[u8]) -> Record {
    let message = RawMessage {
        position: 0,
        arrived_at_us: 0,
        topic: Bytes::copy_from_slice(topic.as_bytes()),
        payload: Bytes::copy_from_slice(payload),
        ..RawMessage::default()
    };
    Record::Message { packet_id, exactly_once: false, message }
}

/// Appends as one frame, waits until it is durable, and gives what is to be read back.
fn keep(journal: &mut Journal, at_us: i64, mut records: Vec<Record>) -> Kept {
    let first = journal.append(at_us, &records).expect("appended");
    journal.wait_synced().expect("synced");
    for (record, position) in records.iter_mut().zip(first..) {
        match record {
            Record::Message { message, .. } => {
                (message.position, message.arrived_at_us) = (position, at_us);
            }
            Record::Lost { at_us: lost_at_us, .. } => *lost_at_us = at_us,
            Record::Restored { at_us: restored_at_us } => *restored_at_us = at_us,
            Record::Released { .. } => {}
        }
    }
    (first..).zip(records).collect()
}

fn files(folder: &TempDir) -> Vec<PathBuf> {
    JournalFile::list(&SystemDisk, folder.path()).expect("listed").into_iter().map(|file| file.path).collect()
}

/// Four frames with everything that a record can be, each durable before the next.
fn example(journal: &mut Journal) -> Kept {
    let mut flagged = message(0xabcd, "a/b", b"{}");
    if let Record::Message { message, .. } = &mut flagged {
        (message.retained, message.duplicate, message.oversize) = (true, true, Some(5_000_000));
    }
    [
        keep(journal, 1_000_000, vec![message(7, "t", b"xyz"), message(0, "", b"")]),
        keep(journal, -2, vec![Record::Lost { at_us: 0, reason: "gone".into() }]),
        keep(journal, 3, vec![Record::Restored { at_us: 0 }]),
        keep(journal, 4, vec![flagged, message(1, "c", &[0xff; 200])]),
    ]
    .concat()
}

#[test]
fn the_bytes_are_these() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut journal, kept) = opened(setup(folder.path()));
    assert_eq!((journal.first(), journal.next(), kept.len()), (1, 1, 0));
    let expected = example(&mut journal);
    drop(journal);
    assert_eq!(files(&folder), [folder.path().join("00000000000000000001.journal")]);
    let bytes = fs::read(&files(&folder)[0]).expect("read");
    let hex: String = bytes[..bytes.len() - 200].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN.concat());
    let (journal, kept) = opened(setup(folder.path()));
    assert_eq!(kept, expected);
    assert_eq!(journal.read_from(0).map(|record| record.expect("good")).collect::<Kept>(), expected);
    assert_eq!(journal.read_from(4).map(|record| record.expect("good")).collect::<Kept>(), expected[3..]);
    assert_eq!((journal.next(), journal.synced()), (7, 6));
}

/// The head of the file, then its four frames; the last payload is left out.
const GOLDEN: [&str; 5] = [
    "74776c2d6a726e6c0200000001000000000000000069475317",
    "1c000000137f29d0000000000000000040420f000000000004070001037478797a000000",
    "16000000be35846e0200000000000000feffffffffffffff1004676f6e65",
    "11000000701343c40300000000000000030000000000000020",
    "ed0000000d8e56f2040000000000000004000000000000000fcdabc096b1020302612f627b7d04010001c80163",
];

/// A file of the version before goes on as one of this version.
#[test]
fn a_journal_of_the_version_before_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = opened(setup(folder.path()));
    let mut expected = example(&mut journal);
    drop(journal);
    let path = files(&folder).remove(0);
    let mut bytes = fs::read(&path).expect("read");
    bytes[8] = 1;
    let crc = crc32fast::hash(&bytes[..frame::FILE_HEAD_BYTES - 4]);
    bytes[frame::FILE_HEAD_BYTES - 4..frame::FILE_HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).expect("written");
    let (mut journal, kept) = opened(setup(folder.path()));
    assert_eq!(kept, expected);
    expected.extend(keep(&mut journal, 5, vec![Record::Released { packet_id: 7 }]));
    drop(journal);
    assert_eq!(fs::read(&path).expect("read")[8], 2);
    assert_eq!(opened(setup(folder.path())).1, expected);
}

#[test]
fn qos_2_and_headers_are_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let setup = |headers: &[&str]| {
        let headers = headers.iter().map(|name| (*name).to_owned()).collect();
        JournalSetup { headers, ..setup(folder.path()) }
    };
    let with = |packet_id, headers: &[Option<&'static str>]| {
        let headers = headers.iter().map(|value| value.map(Bytes::from)).collect();
        match message(packet_id, "t", b"x") {
            Record::Message { message, .. } => {
                Record::Message { packet_id, exactly_once: true, message: RawMessage { headers, ..message } }
            }
            other => other,
        }
    };
    let (mut journal, _) = opened(setup(&["a", "b"]));
    let records =
        vec![with(7, &[Some("1"), None]), with(8, &[None, None]), Record::Released { packet_id: 7 }];
    let mut expected = keep(&mut journal, 1, records);
    assert_eq!(journal.read_from(0).map(|record| record.expect("good")).collect::<Kept>(), expected);
    drop(journal);
    assert_eq!(opened(setup(&["a", "b"])).1, expected);
    // Another run wants others, in another order.
    for ((_, record), headers) in expected.iter_mut().zip([[None, Some("1")], [None, None]]) {
        if let Record::Message { message, .. } = record {
            message.headers = headers.map(|value| value.map(Bytes::from)).into();
        }
    }
    assert_eq!(opened(setup(&["c", "a"])).1, expected);
}

#[test]
fn a_message_of_the_paper_takes_little_more_than_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = opened(setup(folder.path()));
    let topic = "device/press-0417/telemetry/state";
    let payload = [b'7'; 126];
    for packet_id in 1..=2_000 {
        journal.append(1_646_847_376_150_250, &[message(packet_id, topic, &payload)]).expect("appended");
    }
    let ratio = journal.bytes() as f64 / (2_000 * (topic.len() + payload.len())) as f64;
    assert!(ratio <= 1.2, "{ratio}");
}

#[test]
fn a_cut_file_keeps_its_whole_frames() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = opened(setup(folder.path()));
    let expected = example(&mut journal);
    drop(journal);
    let path = files(&folder).remove(0);
    let whole = fs::read(&path).expect("read");
    for length in (0..whole.len()).rev() {
        fs::write(&path, &whole[..length]).expect("written");
        if length < frame::FILE_HEAD_BYTES {
            assert!(open(setup(folder.path())).is_err(), "{length}: no crash leaves half a head");
            continue;
        }
        let (mut journal, kept) = opened(setup(folder.path()));
        assert!(kept.len() < expected.len(), "{length}");
        assert_eq!(kept, expected[..kept.len()], "{length}");
        // It goes on where it was cut, and what comes then is read back too.
        let more = keep(&mut journal, 9, vec![message(9, "more", b"1")]);
        assert_eq!(more[0].0, kept.len() as u64 + 1, "{length}");
        drop(journal);
        assert_eq!(opened(setup(folder.path())).1, [kept, more].concat(), "{length}");
    }
}

#[test]
fn a_flipped_bit_is_damage_or_a_torn_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = opened(setup(folder.path()));
    let first = keep(&mut journal, 1, vec![message(7, "t", b"xyz")]);
    let last_begins_at = journal.bytes() as usize;
    keep(&mut journal, 2, vec![message(8, "t", b"abc")]);
    drop(journal);
    let path = files(&folder).remove(0);
    let whole = fs::read(&path).expect("read");
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bytes).expect("written");
        match open(setup(folder.path())) {
            Ok((_, kept)) => {
                assert!(bit / 8 >= last_begins_at, "bit {bit} of what was durable is not missed");
                assert_eq!(kept, first, "bit {bit}");
            }
            Err(error) => {
                assert!(bit / 8 < last_begins_at, "bit {bit}: {error}");
                assert!(error.to_string().contains("00000000000000000001.journal"), "{error}");
            }
        }
    }
}

#[test]
fn damage_before_the_newest_file_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = opened(small(folder.path()));
    for number in 0..10 {
        keep(&mut journal, number, vec![message(1, "t", &[b'x'; 400])]);
    }
    drop(journal);
    let paths = files(&folder);
    assert_eq!(paths.len(), 4);
    let whole = fs::read(&paths[1]).expect("read");
    for length in [0, 10, 30, whole.len() - 1] {
        fs::write(&paths[1], &whole[..length]).expect("written");
        let error = open(small(folder.path())).err().expect("refused");
        assert!(
            matches!(&error, JournalError::Damaged { path, .. } if *path == paths[1]),
            "{length}: {error}"
        );
    }
    fs::remove_file(&paths[1]).expect("removed");
    let error = open(small(folder.path())).err().expect("refused").to_string();
    assert!(error.contains("it begins at message 7, and the file before it ends at 4"), "{error}");
}

#[test]
fn a_newer_version_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = JournalFile::path_of(folder.path(), 1);
    let head = FileHead { first: 1, is_lost: false }.encode();
    for (version, expected) in [(3_u8, "run the newer version"), (0, "version never was")] {
        let mut bytes = head.clone();
        bytes[8] = version;
        fs::write(&path, bytes).expect("written");
        let error = open(setup(folder.path())).err().expect("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_was_not_promised_may_be_lost_in_the_middle() {
    // A loss of power may keep a later page and lose an earlier one, both of which were not synced.
    let folder = tempfile::tempdir().expect("a folder");
    let path = JournalFile::path_of(folder.path(), 1);
    let mut bytes = FileHead { first: 1, is_lost: false }.encode();
    for (index, unsynced) in [(0, 0), (1, 0), (2, 1), (3, 2)] {
        let mut frame = Vec::new();
        let head = FrameHead { index, unsynced, arrived_at_us: 5 };
        frame::encode(head, &[message(1, "t", b"x")], &[], &mut frame);
        bytes.extend(frame);
    }
    let second_at = FileHead { first: 1, is_lost: false }.encode().len() + 29;
    bytes[second_at + 20] ^= 1;
    fs::write(&path, &bytes).expect("written");
    let (journal, kept) = opened(setup(folder.path()));
    assert_eq!((kept.len(), journal.next()), (1, 2));
}

#[test]
fn old_files_go_and_the_count_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = opened(small(folder.path()));
    let mut all = keep(&mut journal, 0, vec![Record::Lost { at_us: 0, reason: "away".into() }]);
    while !journal.is_full() {
        all.extend(keep(&mut journal, 1, vec![message(1, "t", &[b'x'; 400])]));
    }
    assert!(journal.is_lost() && journal.bytes() < 5_000);
    journal.truncate_before(6).expect("truncated");
    assert!(!journal.is_full() && journal.first() > 1 && journal.first() <= 6);
    let first = journal.first();
    drop(journal);
    let (mut journal, kept) = opened(small(folder.path()));
    assert_eq!(kept, all[first as usize - 1..]);
    assert!(journal.is_lost(), "the news are in a file that is gone, and still known");
    // All of it is in a checkpoint: also the newest file goes once it is long enough.
    journal.truncate_before(journal.next()).expect("truncated");
    assert!(journal.bytes() < 1_000 && !journal.is_full());
    drop(journal);
    let (journal, kept) = opened(small(folder.path()));
    assert_eq!(journal.next(), all.len() as u64 + 1);
    assert!(kept.len() < 3 && journal.is_lost());
}

#[test]
fn it_goes_on_at_a_checkpoint_that_is_ahead_and_refuses_one_that_is_too_old() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = opened(small(folder.path()));
    keep(&mut journal, 1, vec![message(1, "t", b"x"), message(1, "t", b"y")]);
    for next in [0, 1, 2, 3] {
        journal.go_on_at(next).expect("nothing is missing");
        assert_eq!(journal.next(), 3);
    }
    journal.go_on_at(100).expect("it goes on");
    assert_eq!((journal.first(), journal.next(), journal.synced()), (100, 100, 99));
    assert_eq!(keep(&mut journal, 1, vec![message(1, "t", b"z")])[0].0, 100);
    drop(journal);
    let (mut journal, kept) = opened(small(folder.path()));
    assert_eq!((kept.len(), journal.first(), journal.next()), (1, 100, 101));
    let error = journal.go_on_at(50).expect_err("what came from 50 to 99 is gone").to_string();
    assert!(error.contains("begins at message 100") && error.contains("goes on at 50"), "{error}");
}

#[test]
fn settings_are_checked() {
    let check = |text: &str| serde_json::from_str::<JournalSettings>(text).map(|settings| settings.check());
    assert!(matches!(check("{}"), Ok(Ok(()))));
    assert!(matches!(check(r#"{"size": "10MB"}"#), Ok(Ok(()))));
    assert!(matches!(check(r#"{"size": "1kB"}"#), Ok(Err(_))));
    assert!(matches!(check(r#"{"file": "0B"}"#), Ok(Err(_))));
    assert!(check(r#"{"sync": false}"#).is_err());
}
