//! Reads messages from a file, one JSON object a line, once from begin to end.
//!
//! ```text
//!   {"topic": "plant/1", "arrived_at": 1646847376150.25, "payload": {"t": 20.5}}
//! ```
//! `payload` is any JSON, handed on byte for byte as it stands in the line; `payload_text` and
//! `payload_base64` are for what is not JSON. `arrived_at` is milliseconds since 1970, with or
//! without a fraction, or an RFC 3339 text; recorded input needs it, live input does not look at
//! it. `retained` may be true.
//!
//! Started anew behind a checkpoint, it passes over what the checkpoint has: live, so many lines;
//! recorded, the lines up to a time.
//!
//! Recorded time only goes on: an arrival earlier than the one before it stays in the message as
//! recorded, and counts as equal to the newest so far where lanes are told how far time has come.

use super::line::{Line, Lines, Reading};
use super::{FileClock, FileError, FileSettings};
use crate::clock::Clock;
use crate::lanes::Lanes;
use crate::message::{Intake, OVERSIZE_KEPT_BYTES, RawMessage};
use crate::place::Place;
use crate::queue::Closed;
use crate::source::{SourceHandle, SourceSetup, SourceStats};
use crate::thread::{StopSignal, Worker, unpark_current};
use bytes::Bytes;
use std::fs::File;
use std::sync::Arc;
use tracing::{error, info};

/// How much may wait in each lane.
const LANE_BYTES_MAX: usize = 16 << 20;

/// Lanes are told about recorded time when it passes a multiple of this.
const ADVANCE_INTERVAL_US: i64 = 100_000;

/// Starts a source that reads the file once, to its end: from its begin, or from what `setup.next`
/// says. Live, that is the number of lines that were taken; recorded, the time (microseconds since
/// 1970) up to which all was.
pub fn start(setup: SourceSetup, settings: &FileSettings) -> Result<SourceHandle, FileError> {
    let SourceSetup { name, lanes, lane_of, clock, next, until_us, .. } = setup;
    let failed = |error| FileError::Read { name: name.clone(), path: settings.path.clone(), error };
    let file = File::open(&settings.path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(failed(std::io::ErrorKind::IsADirectory.into()));
    }
    let (stats, stop) = (Arc::new(SourceStats::default()), Arc::new(StopSignal::default()));
    let (lanes, receivers) = Lanes::new(lanes, LANE_BYTES_MAX, lane_of);
    let source = Source {
        name: name.clone(),
        lines: Lines::new(file),
        recorded: settings.clock == FileClock::Recorded,
        lanes,
        clock,
        stats: stats.clone(),
        stop: stop.clone(),
        begin: next.number(),
        until_us,
        is_over: false,
        position: 0,
        newest_us: None,
        advanced_to_us: None,
    };
    let worker = Worker::spawn(&format!("source-{name}"), move || source.run());
    let worker = worker.map_err(|error| FileError::Thread { name: name.clone(), error })?;
    Ok(SourceHandle::new(&name, receivers, stats, stop, worker))
}

struct Source {
    name: String,
    lines: Lines<File>,
    recorded: bool,
    lanes: Lanes,
    clock: Arc<dyn Clock>,
    stats: Arc<SourceStats>,
    stop: Arc<StopSignal>,
    /// Lines, or recorded time, that an earlier run has taken.
    begin: u64,
    /// Recorded time at which to stop.
    until_us: Option<i64>,
    /// Recorded time has come there.
    is_over: bool,
    position: u64,
    newest_us: Option<i64>,
    /// The last boundary that the lanes were told of.
    advanced_to_us: Option<i64>,
}

impl Source {
    fn run(mut self) {
        let waker = unpark_current();
        self.lanes.set_waker(&waker);
        self.stop.set_waker(waker);
        self.stats.set_connected(true);
        if self.read().is_ok() {
            self.lanes.push_all(&Intake::End { newest_us: self.newest_us, next: Place::at(self.position) });
            // An error says that nobody reads the lanes any more, which is an end as good.
            _ = self.lanes.flush_over_bound();
            info!(source = %self.name, messages = self.position, "file read to its end");
        }
        self.stats.set_connected(false);
    }

    /// Reads until the end of the file, or until told to stop.
    fn read(&mut self) -> Result<(), Closed> {
        while !self.stop.is_asked() && !self.is_over {
            match self.lines.next() {
                Ok(Reading::Line(line)) => self.take(line),
                Ok(Reading::TooLong { begin }) => {
                    self.unreadable("the line is longer than 64 MB".into(), &begin);
                }
                // What one read of the file brought is handed over before the next one.
                Ok(Reading::NeedsMore) => self.hand_over()?,
                Ok(Reading::End) => break,
                Err(error) => {
                    error!(source = %self.name, %error, "file not read to its end");
                    self.unreadable(format!("the file cannot be read further: {error}"), &Bytes::new());
                    break;
                }
            }
        }
        self.hand_over()
    }

    /// Waits until the lanes have taken everything, or a stop is asked for.
    fn hand_over(&mut self) -> Result<(), Closed> {
        loop {
            if let Some(number) = self.stop.take_boundary() {
                self.lanes.push_all(&Intake::Boundary { number, next: Place::at(self.position) });
            }
            self.lanes.flush()?;
            if !self.lanes.are_blocked() || self.stop.is_asked() {
                return Ok(());
            }
            std::thread::park();
        }
    }

    fn take(&mut self, bytes: Bytes) {
        let line = match Line::read(&bytes, self.recorded) {
            Ok(line) => line,
            Err(reason) => return self.unreadable(reason, &bytes),
        };
        let arrived_at_us = match line.arrived_at_us {
            Some(recorded_us) => recorded_us,
            None => self.clock.wall_us(),
        };
        if self.recorded && self.until_us.is_some_and(|until_us| arrived_at_us >= until_us) {
            self.is_over = true;
            return;
        }
        self.go_on_to(arrived_at_us);
        self.position += 1;
        if self.was_taken() {
            return;
        }
        self.stats.add(1, line.payload.len() as u64);
        self.lanes.push(RawMessage {
            position: self.position,
            arrived_at_us,
            topic: line.topic,
            payload: line.payload,
            retained: line.retained,
            ..RawMessage::default()
        });
    }

    /// Recorded time has come to `arrived_at_us`; tells the lanes when it passes a boundary. This
    /// and every later message counts as arrived at or after the boundary, so the last moment
    /// before it is over.
    fn go_on_to(&mut self, arrived_at_us: i64) {
        let newest_us = self.newest_us.map_or(arrived_at_us, |newest_us| newest_us.max(arrived_at_us));
        self.newest_us = Some(newest_us);
        let boundary_us = newest_us - newest_us.rem_euclid(ADVANCE_INTERVAL_US);
        if self.recorded && self.advanced_to_us.is_none_or(|advanced_to_us| boundary_us > advanced_to_us) {
            self.advanced_to_us = Some(boundary_us);
            self.lanes.push_all(&Intake::Advance { to_us: boundary_us - 1 });
        }
    }

    /// Whether an earlier run has taken the line that was just counted.
    fn was_taken(&self) -> bool {
        match self.recorded {
            true => self.newest_us.is_some_and(|newest_us| newest_us < self.begin as i64),
            false => self.position <= self.begin,
        }
    }

    fn unreadable(&mut self, reason: String, line: &Bytes) {
        let arrived_at_us = if self.recorded { self.newest_us.unwrap_or(0) } else { self.clock.wall_us() };
        self.position += 1;
        if self.was_taken() {
            return;
        }
        let payload = Bytes::copy_from_slice(&line[..line.len().min(OVERSIZE_KEPT_BYTES)]);
        self.lanes.push_first(Intake::Unreadable { position: self.position, arrived_at_us, reason, payload });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use std::io::Write;
    use std::time::Duration;

    fn open_from(
        text: &[u8],
        clock: FileClock,
        lanes: usize,
        next: u64,
    ) -> (SourceHandle, tempfile::NamedTempFile) {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(text).expect("written");
        let settings = FileSettings { path: file.path().to_owned(), clock };
        let setup = SourceSetup {
            lanes,
            lane_of: Arc::new(|topic: &[u8]| usize::from(*topic.last().unwrap_or(&0))),
            clock: Arc::new(ManualClock::new(77)),
            next: Place::at(next),
            ..SourceSetup::new("press", &[], "")
        };
        let source = start(setup, &settings).expect("started");
        (source, file)
    }

    fn open(text: &[u8], clock: FileClock, lanes: usize) -> (SourceHandle, tempfile::NamedTempFile) {
        open_from(text, clock, lanes, 0)
    }

    fn show(intake: &Intake) -> String {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        match intake {
            Intake::Message(message) => {
                let retained = if message.retained { " retained" } else { "" };
                format!(
                    "{} @{} {} {}{retained}",
                    message.position,
                    message.arrived_at_us,
                    text(&message.topic),
                    text(&message.payload)
                )
            }
            Intake::Advance { to_us } => format!("advance {to_us}"),
            Intake::Unreadable { position, arrived_at_us, reason, .. } => {
                format!("{position} @{arrived_at_us} unreadable: {reason}")
            }
            Intake::End { newest_us, .. } => format!("end {newest_us:?}"),
            other => format!("{other:?}"),
        }
    }

    fn check(clock: FileClock, text: &str, expected: &[&str]) {
        let (source, _file) = open(text.as_bytes(), clock, 1);
        let got: Vec<_> = std::iter::from_fn(|| source.lanes[0].recv()).map(|intake| show(&intake)).collect();
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn recorded_lines_keep_their_time_and_their_bytes() {
        check(
            FileClock::Recorded,
            "{\"topic\":\"a\",\"arrived_at\":1646847376150.25,\"payload\":{ \"t\" : 1.50 }}\n\
             {\"arrived_at\":\"2022-03-09T17:36:16.2505Z\",\"topic\":\"b\",\"payload\":null,\"retained\":true}\n\
             \n\
             {\"topic\":\"c\\u00e4\",\"arrived_at\":1646847376100,\"payload_text\":\"no \\\"JSON\\\"\"}\n\
             {\"topic\":\"d\",\"arrived_at\":1646847376299.999,\"payload_base64\":\"aGk=\",\"note\":1}\n\
             {\"topic\":\"e\",\"arrived_at\":1646847376300,\"payload\":\"x\"}",
            &[
                "advance 1646847376099999",
                "1 @1646847376150250 a { \"t\" : 1.50 }",
                "advance 1646847376199999",
                "2 @1646847376250500 b null retained",
                "3 @1646847376100000 c\u{e4} no \"JSON\"",
                "4 @1646847376299999 d hi",
                "advance 1646847376299999",
                "5 @1646847376300000 e \"x\"",
                "end Some(1646847376300000)",
            ],
        );
    }

    #[test]
    fn what_cannot_be_read_is_a_dead_letter_with_the_last_arrival() {
        check(
            FileClock::Recorded,
            "{\"topic\":\"a\",\"arrived_at\":1,\"payload\":1}\nnonsense\n{\"topic\":\"a\",\"payload\":1}\n\
             {\"topic\":\"a\",\"arrived_at\":\"noon\",\"payload\":1}\n{\"topic\":\"a\",\"arrived_at\":2}\n\
             {\"topic\":\"a\",\"arrived_at\":2,\"payload\":1,\"payload_text\":\"1\"}\n\
             {\"topic\":\"a\",\"arrived_at\":2,\"payload_base64\":\"?\"}\n",
            &[
                "advance -1",
                "1 @1000 a 1",
                "2 @1000 unreadable: not a JSON object of a message: expected ident at line 1 column 2",
                "3 @1000 unreadable: `arrived_at` is missing; recorded input needs it",
                "4 @1000 unreadable: `arrived_at` is neither milliseconds since 1970 nor an RFC 3339 text",
                "5 @1000 unreadable: no payload; give one of `payload`, `payload_text` and `payload_base64`",
                "6 @1000 unreadable: more than one payload; give one of `payload`, `payload_text` and `payload_base64`",
                "7 @1000 unreadable: `payload_base64` is not base64: Invalid symbol 63, offset 0.",
                "end Some(1000)",
            ],
        );
    }

    #[test]
    fn live_lines_arrive_now() {
        check(
            FileClock::Live,
            "{\"topic\":\"a\",\"payload\":1}\n{\"topic\":\"b\",\"arrived_at\":\"whenever\",\"payload\":2}\n[]\n",
            &[
                "1 @77 a 1",
                "2 @77 b 2",
                "3 @77 unreadable: not a JSON object of a message: invalid length 0, expected struct Parts with 6 elements at line 1 column 2",
                "end Some(77)",
            ],
        );
        check(FileClock::Live, "", &["end None"]);
    }

    #[test]
    fn what_a_checkpoint_has_is_passed_over_and_counted() {
        let text: String =
            (1..=4).map(|n| format!("{{\"topic\":\"a\",\"arrived_at\":{n}00,\"payload\":{n}}}\n")).collect();
        let from = |clock, next| {
            let (source, _file) = open_from(text.as_bytes(), clock, 1, next);
            let all: Vec<_> = std::iter::from_fn(|| source.lanes[0].recv()).collect();
            let messages = all.iter().filter(|intake| matches!(intake, Intake::Message(_)));
            (messages.map(show).collect::<Vec<_>>(), all.last().cloned())
        };
        let (messages, end) = from(FileClock::Live, 3);
        assert_eq!(messages, ["4 @77 a 4"]);
        assert_eq!(end, Some(Intake::End { newest_us: Some(77), next: Place::at(4) }));
        let (messages, _) = from(FileClock::Recorded, 300_000);
        assert_eq!(messages, ["3 @300000 a 3", "4 @400000 a 4"]);
        assert_eq!(from(FileClock::Recorded, u64::MAX / 4).0, [""; 0]);
    }

    #[test]
    fn a_boundary_cuts_every_lane_at_one_line() {
        let line = format!("{{\"topic\":\"0\",\"payload\":\"{}\"}}\n", "x".repeat(1_000_000));
        let (source, _file) = open(line.repeat(60).as_bytes(), FileClock::Live, 2);
        let first = source.lanes[0].recv();
        assert!(matches!(first, Some(Intake::Message(_))));
        source.boundary(7);
        let mut taken = 1;
        let next = loop {
            match source.lanes[0].recv().expect("a boundary comes before the end") {
                Intake::Boundary { number: 7, next } => break next,
                Intake::Message(_) => taken += 1,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(next, Place::at(taken));
        assert_eq!(source.lanes[1].recv(), Some(Intake::Boundary { number: 7, next }));
    }

    #[test]
    fn every_lane_learns_of_time_and_end() {
        let text = "{\"topic\":\"0\",\"arrived_at\":1,\"payload\":1}\n{\"topic\":\"1\",\"arrived_at\":250,\"payload\":2}\n";
        let (source, _file) = open(text.as_bytes(), FileClock::Recorded, 2);
        let lanes: Vec<Vec<String>> = source
            .lanes
            .iter()
            .map(|lane| std::iter::from_fn(|| lane.recv()).map(|intake| show(&intake)).collect())
            .collect();
        assert_eq!(lanes[0], ["advance -1", "1 @1000 0 1", "advance 199999", "end Some(250000)"]);
        assert_eq!(lanes[1], ["advance -1", "advance 199999", "2 @250000 1 2", "end Some(250000)"]);
    }

    #[test]
    fn a_full_lane_holds_the_source_back_and_a_stop_ends_it() {
        let line = format!("{{\"topic\":\"a\",\"payload\":\"{}\"}}\n", "x".repeat(1_000_000));
        let (source, _file) = open(line.repeat(60).as_bytes(), FileClock::Live, 1);
        let first = source.lanes[0].recv();
        assert!(matches!(first, Some(Intake::Message(_))));
        source.stop();
        let rest: Vec<_> = std::iter::from_fn(|| source.lanes[0].recv()).collect();
        assert!(rest.len() < 40, "{} items though the lane was full", rest.len());
        assert!(matches!(rest.last(), Some(Intake::End { .. })));
    }

    #[test]
    fn a_missing_file_is_named() {
        let settings = FileSettings::new("/nowhere/press.jsonl");
        let error = start(SourceSetup::new("press", &[], ""), &settings).err();
        let text = error.expect("no such file").to_string();
        assert!(text.contains("/nowhere/press.jsonl") && text.contains("press:"), "{text}");
    }

    #[test]
    fn dropping_a_source_that_waits_for_room_ends_it() {
        let line = format!("{{\"topic\":\"a\",\"payload\":\"{}\"}}\n", "x".repeat(1_000_000));
        let (source, _file) = open(line.repeat(60).as_bytes(), FileClock::Live, 1);
        let stats = source.stats.clone();
        assert!(matches!(
            source.lanes[0].recv_timeout(Duration::from_secs(60)),
            crate::queue::Received::Item(_)
        ));
        drop(source);
        assert!(!stats.connected.load(std::sync::atomic::Ordering::Relaxed), "the thread has ended");
    }
}
