//! What a fleet sends, drawn from a seed, and a source that reads it again from any place.
//!
//! Messages are reordered and repeated, device times step forward and back, some elements cannot be
//! read. What must come of it is written down as it is drawn.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use connectors::clock::ManualClock;
use connectors::memory;
use connectors::message::RawMessage;
use connectors::source::{SourceHandle, SourceSetup};

use crate::harness::chance::Chance;

/// Twins of a script.
const TWINS: u64 = 9;
/// Messages of a script.
pub const MESSAGES: u64 = 400;
/// 2023-11-14, a little before midnight, so that there is more than one day.
pub const BEGIN_US: i64 = 1_700_006_390_000_000;
/// How long the source rests between two batches, so that what it sends meets checkpoints.
const REST: Duration = Duration::from_millis(1);

/// The messages, and what must come of them.
pub struct Script {
    /// In the order of their positions, which count from 1.
    pub messages: Vec<RawMessage>,
    /// Accepted elements of each twin, in their order: what is in their property `n`.
    pub accepted: BTreeMap<String, Vec<i64>>,
    /// Position and payload of each dead letter, in order.
    pub dead_letters: Vec<(i64, String)>,
}

/// A message before it has its position.
#[derive(Clone)]
struct Draft {
    twin: u64,
    /// Of several elements; else of one.
    is_burst: bool,
    /// The payload of each element, and its `n` where it can be read.
    elements: Vec<(String, Option<i64>)>,
}

impl Script {
    /// The script of a seed.
    pub fn new(seed: u64) -> Script {
        let mut chance = Chance::new(seed);
        let mut drafts: Vec<Draft> = Vec::new();
        let mut number = 0;
        for place in 0..MESSAGES {
            if !drafts.is_empty() && chance.one_in(12) {
                // The same again, at once or later.
                let back = chance.below(drafts.len().min(20) as u64) as usize;
                drafts.push(drafts[drafts.len() - 1 - back].clone());
                continue;
            }
            let is_burst = chance.one_in(5);
            let count = if is_burst { 1 + chance.below(4) } else { 1 };
            let elements = (0..count)
                .map(|_| {
                    number += 1;
                    element(&mut chance, place, number)
                })
                .collect();
            drafts.push(Draft { twin: chance.below(TWINS), is_burst, elements });
        }
        for window in drafts.chunks_mut(8) {
            if chance.one_in(4) {
                chance.shuffle(window);
            }
        }
        let mut script = Script { messages: Vec::new(), accepted: BTreeMap::new(), dead_letters: Vec::new() };
        drafts.into_iter().for_each(|draft| script.add(draft));
        script
    }

    fn add(&mut self, draft: Draft) {
        let position = self.messages.len() as u64 + 1;
        let twin = format!("p-{}", draft.twin);
        let texts: Vec<&str> = draft.elements.iter().map(|(text, _)| text.as_str()).collect();
        let (stream, payload) = match draft.is_burst {
            true => ("burst", format!("[{}]", texts.join(","))),
            false => ("state", texts.concat()),
        };
        self.messages.push(RawMessage {
            position,
            arrived_at_us: arrival_us(position),
            topic: Bytes::from(format!("{stream}/{twin}")),
            payload: Bytes::from(payload),
            ..RawMessage::default()
        });
        for (text, n) in draft.elements {
            match n {
                Some(n) => self.accepted.entry(twin.clone()).or_default().push(n),
                None => self.dead_letters.push((position as i64, text)),
            }
        }
    }
}

fn arrival_us(position: u64) -> i64 {
    BEGIN_US + position as i64 * 50_000
}

/// An element that is meant to be sent as the message with this number.
fn element(chance: &mut Chance, place: u64, number: i64) -> (String, Option<i64>) {
    let now_ms = arrival_us(place) / 1_000;
    let at = match chance.below(20) {
        // A clock that went back, one that is far ahead, one that is far behind.
        0..3 => now_ms - chance.below(90_000) as i64,
        3 => now_ms + 3_600_000,
        4 => now_ms - 30 * 86_400_000,
        _ => now_ms - chance.below(400) as i64,
    };
    match chance.below(25) {
        0 => (format!(r#"{{"at":{at},"n":"none"}}"#), None),
        1 => (format!(r#"{{"n":{number}}}"#), None),
        _ => (format!(r#"{{"at":{at},"n":{number}}}"#), Some(number)),
    }
}

/// What a test sees of a source that plays a script, over all runs, and tells it.
#[derive(Default)]
pub struct Progress {
    /// Messages that the source has handed over in this run or a run before.
    pub given: AtomicU64,
    /// Messages that the engine has ever let go of: a source may forget them.
    pub committed: AtomicU64,
    /// The source is to end with the script; else it waits at its end.
    pub ends: AtomicBool,
}

/// Plays a script from where the engine says. While it plays, the clock goes on, and now and then steps.
pub fn play(
    script: Arc<Script>,
    progress: Arc<Progress>,
    clock: ManualClock,
    mut chance: Chance,
    setup: SourceSetup,
) -> io::Result<SourceHandle> {
    let begin = setup.next.number();
    let known = progress.committed.load(Ordering::SeqCst);
    assert!(begin >= known, "goes on from message {begin}, but {known} were let go of");
    progress.given.store(begin, Ordering::SeqCst);
    let told = progress.clone();
    let mut next = begin as usize;
    let batches = std::iter::from_fn(move || {
        // Also woken where the engine asks for something.
        std::thread::park_timeout(REST);
        progress.given.fetch_max(next as u64, Ordering::SeqCst);
        if next == script.messages.len() {
            return (!progress.ends.load(Ordering::SeqCst)).then(Vec::new);
        }
        let batch = &script.messages[next..script.messages.len().min(next + 1 + chance.below(6) as usize)];
        next += batch.len();
        clock.advance(match chance.below(30) {
            0 => -(chance.below(20_000_000) as i64),
            1 => chance.below(20_000_000) as i64,
            _ => batch.len() as i64 * 50_000,
        });
        Some(batch.to_vec())
    });
    let committed = move |number| {
        told.committed.fetch_max(number, Ordering::SeqCst);
    };
    memory::source_from("script", setup.lanes, setup.lane_of, begin, batches, committed)
}
