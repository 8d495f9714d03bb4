//! Golden records, and what happens with damaged ones.
//!
//! Method of the latter: good records are cut and have bits flipped by a seeded generator, or are
//! chance altogether. Whatever is read, and fits its type, must then take updates and ticks without
//! a panic and without an end that does not come, and its new record must be read as well.

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;
use crate::adaptation::Adaptation;
use crate::fixture::{Update, apply, twin_type};
use crate::handler::tests::Recorder;
use crate::handler::tick;
use crate::layout::Layout;
use crate::twin::TwinType;

const SECOND_US: i64 = 1_000_000;
const BEGIN_US: i64 = 1_646_847_376_000_000;

/// A type with a property of each kind and a function of each memory.
fn press() -> TwinType {
    twin_type(
        "press",
        r#"{
            "properties": {
                "t": {"type": "double"}, "n": {"type": "integer"}, "on": {"type": "boolean"},
                "name": {"type": "string"}, "mode": {"type": "enum", "values": ["idle", "run"]},
                "v": {"type": "array", "items": "double"}, "o": {"type": "object"}, "never": {"type": "string"},
                "f": {"type": "double"}, "m": {"type": "double"}, "e": {"type": "double"}, "r": {"type": "double"}
            },
            "events": {"hot": {"type": "double"}, "far": {"type": "double"}},
            "functions": {
                "f": {"linear": {"of": "t", "factor": 1.8, "offset": 32}},
                "m": {"mean": {"of": "t", "window": "10s"}},
                "e": {"ewma": {"of": "t", "half_life": "10s"}},
                "r": {"rate": {"of": "n"}},
                "hot": {"threshold": {"of": "t", "above": 80}},
                "far": {"outlier": {"of": "n", "window": "1m"}}
            },
            "entanglement": {"window": "10s", "desired_timeliness": "1s"},
            "streams": {"a": "1/s", "b": "none"}
        }"#,
    )
}

fn update(twin: &mut Twin, definition: &TwinType, update: &Update) {
    apply("p", twin, definition, update, false, &mut Recorder::default());
}

/// Every part of the record in use, and a window of a few observations.
fn exact() -> Twin {
    let definition = press();
    let mut twin = Twin::new(0, &definition);
    for (number, t) in (0..4).zip([20.5, 81.25, 79.0, 90.0]) {
        let values = [
            ("t", json!(t)),
            ("n", json!(3 - number)),
            ("on", json!(true)),
            ("name", json!("the press")),
            ("mode", json!("run")),
            ("v", json!([1.5, 2])),
            ("o", json!({"a": null})),
        ];
        let at_us = BEGIN_US + number * SECOND_US;
        let late_us = if number == 2 { 2 * SECOND_US } else { 0 };
        let one =
            Update { stream: number as u16 % 2, physical_us: at_us, ..Update::at(at_us + late_us, &values) };
        update(&mut twin, &definition, &one);
    }
    // An update older than what the twin has begins a run of stale ones.
    let stale = Update { physical_us: BEGIN_US, ..Update::at(BEGIN_US + 5 * SECOND_US, &[("t", json!(1))]) };
    update(&mut twin, &definition, &stale);
    twin
}

/// A window in sub-windows.
fn coarse() -> Twin {
    let definition = press();
    let mut twin = Twin::new(0, &definition);
    for number in 0..66 {
        let one = Update::at(BEGIN_US + number * 10_000, &[("on", json!(number % 2 == 0))]);
        update(&mut twin, &definition, &Update { stream: number as u16 % 2, ..one });
    }
    twin
}

/// A twin that was never heard.
fn unheard() -> Twin {
    Twin::new(0, &press())
}

fn record(twin: &Twin) -> Vec<u8> {
    let mut bytes = vec![b'!'];
    twin.write(&mut bytes);
    assert_eq!(bytes.remove(0), b'!', "what stood there before must stay");
    bytes
}

/// As text, in which each part shows all that it is made of.
fn told(twin: &Twin) -> String {
    format!("{twin:?}")
}

fn restore(bytes: &[u8], definition: &TwinType) -> Result<Twin, SnapshotError> {
    let types = [definition.clone()];
    let (adaptation, warnings) = Adaptation::new(&Layout::of(&types), &types).expect("nothing has changed");
    assert!(adaptation.is_identity() && warnings.is_empty());
    adaptation.restore(bytes)
}

/// A record as it must be for ever.
fn check(twin: &Twin, expected: Expect) {
    let bytes = record(twin);
    let lines =
        bytes.chunks(40).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    expected.assert_eq(&lines.map(|line| line + "\n").collect::<String>());
    let read = Twin::read(&bytes, VERSION).expect("it is a good record");
    assert_eq!(told(&read), told(twin));
    // Earlier versions are the same without their last parts, which were empty.
    for (version, gone) in [(3, 1), (1, 2)] {
        let (first, last) = bytes.split_at(bytes.len() - gone);
        let earlier = Twin::read(first, version).expect("it is a record of an earlier version");
        assert!(last.iter().all(|byte| *byte == 0));
        assert_eq!(told(&earlier), told(twin), "version {version}");
    }
    Layout::of(&[press()]).check(&read).expect("it is of this type");
}

#[test]
fn rule_7_7_the_golden_record_with_every_part_in_use() {
    check(
        &exact(),
        expect![[r#"
            0005c0010000000000805640c04a0689ccd905000000000000000000c04a0689ccd9050001000000
            00000000c04a0689ccd905000000000000000000c04a0689ccd905000100000000000000c04a0689
            ccd905000100000000000000c04a0689ccd905000200000000000000c04a0689ccd9050000000000
            000000000000000000000080000000000040684002000000000000800000000000ec504002000000
            0000008080d049f8ee2c40400200000000000080000000000000f0bf020000000000008001030974
            6865207072657373075b312e352c325d0a7b2261223a6e756c6c7d018090c48d91f3ec0580bda692
            91f3ec058090c48d91f3ec0501010500048090c48d91f3ec0500000000008034408099be8e91f3ec
            05000000000050544080a2b88f91f3ec050000000000c0534080abb29091f3ec0500000000008056
            40010180abb29091f3ec0580d049f8ee2c4040020180abb29091f3ec050000000000000000030100
            048090c48d91f3ec0500000000000008408099be8e91f3ec05000000000000004080a2b88f91f3ec
            05000000000000f03f80abb29091f3ec050000000000000000008090c48d91f3ec053c0000000000
            0000000000000040420f00000000000000000800093d000024f4490000008000093d000000000040
            420f08404b4c008096984a00000080038090c48d91f3ec05000380abb29091f3ec0580bda69291f3
            ec050480bda69291f3ec0582ea889791f3ec0505010000
        "#]],
    );
}

#[test]
fn rule_7_7_the_golden_record_with_sub_windows() {
    check(
        &coarse(),
        expect![[r#"
            0042c001000000000000000000000000000000800000000000000000000000000000008000000000
            00000000106fe288ccd9050000000000000000000000000000000080000000000000000000000000
            00000080000000000000000000000000000000800000000000000000000000000000008000000000
            00000000000000000000008000000000000000000000000000000080000000000000000000000000
            00000080000000000000000000000000000000800000000000000000000000000000008000000105
            0000010002000300000001d4c1c7c34e424241000000000000000000000000000000000000000000
            00000000000000000000000000000000000000000000000000000000000000000000000000000000
            00000000000000000000000000000000000000000000000000000000000000000000000000000000
            00000000000000000000000000000000000000000000000000000000000000000000000000000000
            00000000000000000000000000000000000000000000000000000000000000000000000000000000
            00000000000000000000000000000000000000000000000000000000000000000000000000000000
            0000000a0a0000000000000000000000000f0f000000000000000000000000101000000000000000
            00000000001010000000000000000000000000090900000000000000000000000000000000000000
            00000000000000000000000000000000000000000000000000000000000000000000000000000000
            00000000000000000000000000000000000000000000000000000000000000000000000000000000
            00000000000000000000000000000000000000000000000000000000000000000000000000000000
            00000000000000000000000000000000000000000000000000000000000000000000000000000000
            00000000000000000000000000000000000000000000000000000000000000000000000000000000
            00000000000000000000000000000000000000000000000000000000000000000000000000000000
            00000000000000000000000000000000000000000000000000000000000000000000000000000000
            00000000000000000000000000000000000000000000000000000000000000000000000000000000
            00000000000000000000000000000000000000000000000000000000000000000000000000000000
            00000000000000000000000000000000000000000000000000000000000000000000000000000000
            00000000000000000000000000000000000000000000000000000000000000000000000000000000
            00000000000000000000000000000000000000000000000000000000000000000000000000000000
            00000000000000000000000000000000000000000000000000000000000000000000000000000000
            00000000000000000000000000000000000000000000000000000000000000000000000000000000
            00000000000000000000000000000000000000000000000000000000000000000000000000000000
            00000000000000000001028201000000000000000000000000000000000000000000000000000000
            00000000000505080708080808040500000000000000000000000000000000000000000000000000
            00000000000000000000000000000000000000000000000000000000000000000000000000000000
            00000000000000000000000000000000000000000000008090c48d91f3ec0501018090c48d91f3ec
            05a0bc938e91f3ec0542a0bc938e91f3ec0580abb29091f3ec0502010000
        "#]],
    );
}

#[test]
fn rule_7_7_the_golden_record_of_a_twin_that_was_never_heard() {
    check(
        &unheard(),
        expect![[r#"
            0000c001000000000000000000000000000000800000000000000000000000000000008000000000
            00000000000000000000008000000000000000000000000000000080000000000000000000000000
            00000080000000000000000000000000000000800000000000000000000000000000008000000000
            00000000000000000000008000000000000000000000000000000080000000000000000000000000
            00000080000000000000000000000000000000800000000000000000000000000000008000000105
            0000010002000300000000000000ffffffffffffffffff010000000000ffffffffffffffffff01fe
            ffffffffffffffff0100000000
        "#]],
    );
}

#[test]
fn every_cut_is_noticed() {
    for twin in [exact(), coarse(), unheard()] {
        let mut bytes = record(&twin);
        for length in 0..bytes.len() {
            let found = Twin::read(&bytes[..length], VERSION);
            assert!(matches!(found, Err(SnapshotError::Encoding(_))), "{length} bytes: {found:?}");
        }
        bytes.extend([0, 0]);
        assert_eq!(Twin::read(&bytes, VERSION).expect_err("it is too long"), SnapshotError::TooLong(2));
        assert_eq!(Twin::read(&bytes, 99).expect_err("nobody knows it"), SnapshotError::Unknown(99));
    }
}

/// A xorshift generator: the same numbers in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below
    }
}

/// Leads whatever was read through updates and ticks; whether it fitted its type.
fn survives(bytes: &[u8], definition: &TwinType) -> bool {
    let Ok(mut twin) = restore(bytes, definition) else { return false };
    let mut recorder = Recorder::default();
    let late_us = BEGIN_US + 600 * SECOND_US;
    tick("p", &mut twin, definition, late_us, &mut recorder);
    for (number, name) in ["t", "name", "mode", "v", "never", "n"].into_iter().enumerate() {
        let value =
            [json!(1.5), json!("x"), json!("idle"), json!([1.0]), json!("y"), json!(7)][number].clone();
        let at_us = late_us + number as i64 * 1_000;
        update(
            &mut twin,
            definition,
            &Update { stream: number as u16 % 2, ..Update::at(at_us, &[(name, value)]) },
        );
    }
    tick("p", &mut twin, definition, late_us + 600 * SECOND_US, &mut recorder);
    restore(&record(&twin), definition).expect("what was written after all that is read again");
    true
}

#[test]
fn damage_never_becomes_a_panic() {
    let definition = press();
    let mut chance = Chance(0x5eed_0001);
    let (mut survived, mut refused) = (0, 0);
    for twin in [exact(), coarse(), unheard()] {
        let good = record(&twin);
        // Each bit of a short record, and of a long one each eleventh: all places, and all bits.
        let step = if good.len() < 500 { 1 } else { 11 };
        for bit in (0..good.len() * 8).step_by(step) {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            *(if survives(&bytes, &definition) { &mut survived } else { &mut refused }) += 1;
        }
        for _ in 0..2_000 {
            let mut bytes = good.clone();
            for _ in 0..=chance.next(8) {
                let at = chance.next(bytes.len());
                match chance.next(4) {
                    0 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][chance.next(5)],
                    1 => drop(bytes.remove(at)),
                    2 => bytes.insert(at, chance.next(256) as u8),
                    _ => bytes[at] ^= 1 << chance.next(8),
                }
                if bytes.is_empty() {
                    break;
                }
            }
            *(if survives(&bytes, &definition) { &mut survived } else { &mut refused }) += 1;
        }
    }
    for _ in 0..2_000 {
        let length = chance.next(300);
        let bytes: Vec<u8> = (0..length).map(|_| chance.next(256) as u8).collect();
        survives(&bytes, &definition);
    }
    // Neither may be rare, or the test says little.
    assert!(survived > 1_000 && refused > 1_000, "{survived} survived, {refused} were refused");
}
