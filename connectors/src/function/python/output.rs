//! What a function prints, line by line into the log: cut where a line is long, and counted instead of shown
//! where lines are many, so that a function that prints for ever costs no more than one that does not.

use std::time::{Duration, Instant};

/// Bytes after which a line is cut.
const LINE_BYTES_MAX: usize = 1_000;
/// Lines that are shown in an interval.
const LINES_MAX: u32 = 20;
const INTERVAL: Duration = Duration::from_secs(1);

/// What is worth a line in the log.
#[derive(Debug, PartialEq)]
pub(super) enum Said {
    /// A line of output.
    Line(String),
    /// So many lines were not shown.
    Skipped(u64),
}

/// The output of a process.
#[derive(Default)]
pub(super) struct Output {
    line: Vec<u8>,
    /// The last line that was not empty; what a process says when it dies.
    last: String,
    interval_began: Option<Instant>,
    shown: u32,
    skipped: u64,
}

impl Output {
    /// Takes a piece of output; gives what to show.
    pub(super) fn push(&mut self, piece: &[u8], now: Instant) -> Vec<Said> {
        let mut said = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
            let (text, is_whole) = match part.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (part, false),
            };
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if is_whole {
                self.end_line(now, &mut said);
            }
        }
        said
    }

    /// The process has ended, and with it a line that was begun.
    pub(super) fn end(&mut self, now: Instant) -> Vec<Said> {
        let mut said = Vec::new();
        self.end_line(now, &mut said);
        self.tell_skipped(&mut said);
        said
    }

    /// The last line that was not empty.
    pub(super) fn last(&self) -> &str {
        &self.last
    }

    fn end_line(&mut self, now: Instant, said: &mut Vec<Said>) {
        let line = std::mem::take(&mut self.line);
        if line.trim_ascii().is_empty() {
            return;
        }
        if self.interval_began.is_none_or(|began| now.saturating_duration_since(began) >= INTERVAL) {
            self.tell_skipped(said);
            (self.interval_began, self.shown) = (Some(now), 0);
        }
        self.last.clear();
        self.last.push_str(&String::from_utf8_lossy(&line));
        if self.shown < LINES_MAX {
            self.shown += 1;
            said.push(Said::Line(self.last.clone()));
        } else {
            self.skipped += 1;
        }
    }

    fn tell_skipped(&mut self, said: &mut Vec<Said>) {
        if self.skipped > 0 {
            said.push(Said::Skipped(std::mem::take(&mut self.skipped)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Said {
        Said::Line(text.to_owned())
    }

    #[test]
    fn lines_come_in_pieces() {
        let (mut output, now) = (Output::default(), Instant::now());
        assert_eq!(output.push(b"one\ntw", now), [line("one")]);
        assert_eq!(output.push(b"o\n\n \nthree", now), [line("two")]);
        assert_eq!(output.last(), "two");
        assert_eq!(output.end(now), [line("three")]);
        assert_eq!(output.last(), "three");
    }

    #[test]
    fn a_long_line_is_cut_and_kept_in_no_more_than_that() {
        let (mut output, now) = (Output::default(), Instant::now());
        for _ in 0..1_000 {
            assert_eq!(output.push(&[b'x'; 1_000], now), []);
            assert!(output.line.len() <= LINE_BYTES_MAX);
        }
        assert_eq!(output.push(b"\n", now), [line(&"x".repeat(LINE_BYTES_MAX))]);
    }

    #[test]
    fn a_flood_is_counted() {
        let (mut output, now) = (Output::default(), Instant::now());
        let flood = "y\n".repeat(1_000);
        let said: Vec<Said> = (0..10).flat_map(|_| output.push(flood.as_bytes(), now)).collect();
        assert_eq!(said.len(), LINES_MAX as usize);
        assert_eq!(output.push(b"z\n", now + INTERVAL), [Said::Skipped(10_000 - 20), line("z")]);
        assert_eq!(output.end(now + INTERVAL), []);
    }
}
