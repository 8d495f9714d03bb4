//! What the fuzz targets check, over their corpora and over what chance makes of those: any payload is events and dead
//! letters, and breaks nothing. `cargo +nightly fuzz run decode` and `.. sparkplug` go on where this stops.

#[path = "../fuzz/fuzz_targets/check.rs"]
mod check;
#[path = "../fuzz/fuzz_targets/sparkplug_check.rs"]
mod sparkplug_check;

use std::fs;
use std::path::Path;

use crate::harness::archive;
use crate::harness::chance::Chance;

/// How many payloads are made of each of the corpus.
const CHANGED: u64 = 400;

/// What a decoder looks out for.
const TOKENS: [&[u8]; 16] = [
    b"[", b"]", b"{", b"}", b"\"", b",", b";", b"\n", b":", b"-", b"1e308", b"\"bn\":", b"\"t\":", b"\"v\":",
    b"null", b"\xff",
];

/// A target: its name, how many inputs chance makes of its corpus, and its check.
type Target = (&'static str, usize, fn(&[u8]));

/// Of each target, the payloads that it begins with, how many there are at least, and what it checks.
const TARGETS: [Target; 2] = [("decode", 20, check::check), ("sparkplug", 16, sparkplug_check::check)];

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    archive::files(&folder).iter().map(|file| fs::read(file).expect("the corpus can be read")).collect()
}

/// Says which payload it was, where one breaks a promise.
fn check(target: fn(&[u8]), payload: &[u8]) {
    let checked = std::panic::catch_unwind(|| target(payload));
    assert!(checked.is_ok(), "the payload \"{}\"", payload.escape_ascii());
}

#[test]
fn the_corpora_keep_the_promises() {
    for (name, least, target) in TARGETS {
        let corpus = corpus(name);
        assert!(corpus.len() >= least, "the corpus of {name} is there: {}", corpus.len());
        corpus.iter().for_each(|payload| check(target, payload));
    }
}

#[test]
fn what_chance_makes_of_the_corpora_keeps_them() {
    for (name, _, target) in TARGETS {
        let corpus = corpus(name);
        let mut chance = Chance::new(8);
        for payload in &corpus {
            for _ in 0..CHANGED {
                let mut changed = payload.clone();
                for _ in 0..=chance.below(4) {
                    change(&mut changed, &corpus, &mut chance);
                }
                check(target, &changed);
            }
        }
    }
}

/// One change: a byte, a token, a part twice or not at all, the end of another payload.
fn change(payload: &mut Vec<u8>, corpus: &[Vec<u8>], chance: &mut Chance) {
    let mut place = |len: usize| chance.below(len as u64 + 1) as usize;
    let (one, other) = (place(payload.len()), place(payload.len()));
    let (from, to) = (one.min(other), one.max(other));
    match place(5) {
        0 => payload.truncate(from),
        1 => drop(payload.drain(from..to)),
        2 => {
            let part = payload[from..to].to_vec();
            payload.splice(to..to, part);
        }
        3 => {
            let token = TOKENS[place(TOKENS.len() - 1)];
            payload.splice(from..from, token.iter().copied());
        }
        4 => {
            let other = &corpus[place(corpus.len() - 1)];
            payload.truncate(from);
            payload.extend_from_slice(&other[place(other.len())..]);
        }
        _ => {
            let byte = place(255) as u8;
            if let Some(place) = payload.get_mut(from) {
                *place = byte;
            }
        }
    }
}
