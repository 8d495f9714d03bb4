//! A fleet that goes down and comes back at once: its broker is lost and found again, and then every device's last will
//! and its next greeting.
//!
//! Prints seconds from the news until a listener knows of the last twin, CPU seconds of the whole process, and the most
//! memory above what the fleet took before.

#[allow(dead_code, reason = "each bench uses a part of it")]
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{BATCH, Job, Messages, argument, cpu_seconds, peak_bytes, reset_peak};
use connectors::clock::{Clock, SystemClock};
use connectors::memory::{self, Handed};
use connectors::message::{Intake, RawMessage};
use connectors::source::SourceSetup;
use dataflows::RunOptions;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long a wait may last before the bench gives up.
const LONG: Duration = Duration::from_secs(300);

/// What the source does next, all its devices in turn.
#[derive(Clone, Copy)]
enum Act {
    /// Each device speaks.
    Speak,
    /// The broker is lost.
    Lose,
    /// It is back.
    Restore,
    /// Each device's presence says so.
    Presence(&'static str),
}

fn main() {
    let twins: usize = argument("--twins").map_or(1_000_000, |text| text.parse().expect("a number"));
    let workers: usize = argument("--workers").map_or(2, |text| text.parse().expect("a number"));
    let messages = Arc::new(Messages::new(twins, 10_000));
    // How many are entangled, as the listener knows.
    let entangled = Arc::new(AtomicI64::new(0));
    let (acts, asked) = channel();
    let counted = entangled.clone();
    let sink = move || {
        memory::sink("memory", move |batch| {
            let lives = batch.iter().filter(|message| message.topic.ends_with("/lifecycle"));
            let change = |payload: &[u8]| -> i64 {
                let has = |text: &str| payload.windows(text.len()).any(|part| part == text.as_bytes());
                i64::from(has(r#""to":"entangled""#)) - i64::from(has(r#""from":"entangled""#))
            };
            counted.fetch_add(lives.map(|message| change(message.payload)).sum(), Ordering::Relaxed);
        })
    };
    let open = move |port: SourceSetup| {
        let all = handed(messages, twins, asked);
        memory::source_with_news("memory", port.lanes, port.lane_of, 0, all, |_| {})
    };
    // Twins that were down for a while are entangled all the same.
    let entanglement =
        r#"{"window": "60s", "desired_timeliness": "60s", "settle": "0s", "threshold": 0.1}"#.into();
    let job = Job { presence: true, entanglement, ..Job::default() };
    let plan = job.plan(open, sink, None);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = RunOptions::new(workers, folder.path().join("data"));
    let run = dataflows::start(plan, options).expect("the run starts");

    println!("{twins} twins, {workers} workers: until a listener knows of the last one");
    let mut expected = 0;
    for (what, acts_of_it, are_entangled) in [
        ("first heard", &[Act::Speak][..], true),
        ("broker lost", &[Act::Lose], false),
        ("broker back, all speak", &[Act::Restore, Act::Speak], true),
        ("lost and back at once, all speak", &[Act::Lose, Act::Restore, Act::Speak], true),
        ("presence down", &[Act::Presence("offline")], false),
        ("presence up", &[Act::Presence("online")], true),
    ] {
        let resident = reset_peak();
        let speak = acts_of_it.iter().filter(|act| matches!(act, Act::Speak | Act::Presence(_)));
        expected += speak.count() as u64 * twins as u64;
        let known = if are_entangled { twins as i64 } else { 0 };
        let is_over = || {
            entangled.load(Ordering::Relaxed) == known
                && run.metrics().events.load(Ordering::Relaxed) == expected
        };
        let (before, start) = (cpu_seconds(), Instant::now());
        acts_of_it.iter().for_each(|act| acts.send(*act).expect("the source listens"));
        while !is_over() {
            assert!(start.elapsed() < LONG, "{what}: {} are entangled", entangled.load(Ordering::Relaxed));
            std::thread::sleep(Duration::from_millis(1));
        }
        println!(
            "{what:<34} {:>5.2} s  {:>5.2} CPU s  {:>5} MB more at most",
            start.elapsed().as_secs_f64(),
            cpu_seconds() - before,
            peak_bytes().saturating_sub(resident) / 1_000_000
        );
    }
    drop(acts);
    run.wait().expect("the run ends well");
}

/// What the source hands over: what it is asked to do, in batches.
fn handed(messages: Arc<Messages>, twins: usize, asked: Receiver<Act>) -> impl Iterator<Item = Handed> {
    let mut position = 0;
    asked.into_iter().flat_map(move |act| {
        let messages = messages.clone();
        let begin = position;
        let counts = matches!(act, Act::Speak | Act::Presence(_));
        let count = if counts { twins as u64 } else { 0 };
        position += count;
        let news = match act {
            Act::Lose => Some(Intake::Lost { at_us: SystemClock.wall_us(), reason: "a bench".into() }),
            Act::Restore => Some(Intake::Restored { at_us: SystemClock.wall_us() }),
            Act::Speak | Act::Presence(_) => None,
        };
        let batches = (0..count).step_by(BATCH as usize).map(move |from| {
            let now_us = SystemClock.wall_us();
            let message = |number| {
                let said = RawMessage { position: begin + number + 1, ..messages.message(number, now_us) };
                match act {
                    Act::Presence(word) => RawMessage {
                        topic: status_topic(&said.topic),
                        payload: Bytes::from_static(word.as_bytes()),
                        ..said
                    },
                    _ => said,
                }
            };
            Handed::Messages((from..count.min(from + BATCH)).map(message).collect())
        });
        news.map(Handed::News).into_iter().chain(batches)
    })
}

/// The topic of a device's presence, beside that of its telemetry.
fn status_topic(topic: &Bytes) -> Bytes {
    let text = std::str::from_utf8(topic).expect("it is ours");
    text.replace("/telemetry/device_state", "/status").into()
}
