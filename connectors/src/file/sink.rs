//! Writes messages to a file, one JSON object a line: `{"topic":"...","payload":...}`.
//!
//! A payload that is JSON stands in the line as it is (line breaks between its tokens become
//! blanks); any other is `payload_text`, or `payload_base64` where it is not text. Lines are added
//! behind what the file already holds, and reach the file whenever the queue runs empty.

use super::{FileError, FileSettings};
use crate::message::{MessageBatch, Outgoing, Receipt};
use crate::queue::Weigh;
use crate::reminder::Reminder;
use crate::sink::{SinkHandle, SinkWork};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::de::IgnoredAny;
use std::fs::{File, OpenOptions};
use std::io::{Read, Result, Seek, SeekFrom, Write};
use tracing::warn;

/// How much may wait for the file.
const QUEUE_BYTES_MAX: usize = 16 << 20;

/// Lines are written once they come to this, though more wait.
const WRITE_BYTES: usize = 256 << 10;

/// Starts a sink; the file is made where it is missing.
pub fn start(name: &str, settings: &FileSettings) -> std::result::Result<SinkHandle, FileError> {
    let failed = |error| FileError::Write { name: name.to_owned(), path: settings.path.clone(), error };
    let (file, ends_in_a_line) = open(settings).map_err(failed)?;
    let handle = SinkHandle::start(name, QUEUE_BYTES_MAX, move |work| {
        let writer = Writer {
            work,
            file,
            ends_in_a_line,
            lines: Vec::new(),
            held: Held::default(),
            failures: Reminder::default(),
        };
        writer.run();
    });
    handle.map_err(|error| FileError::Thread { name: name.to_owned(), error })
}

/// Opens the file, and looks whether a run that was cut off left half a line.
fn open(settings: &FileSettings) -> Result<(File, bool)> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(&settings.path)?;
    let mut last = [b'\n'];
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    Ok((file, last == *b"\n"))
}

struct Writer {
    work: SinkWork,
    file: File,
    /// Whether the file's last byte is a line's end; not after a write that was cut short.
    ends_in_a_line: bool,
    lines: Vec<u8>,
    held: Held,
    failures: Reminder,
}

/// What stands in `lines`.
#[derive(Default)]
struct Held {
    messages: u64,
    bytes: u64,
    weight: usize,
    receipts: Vec<Receipt>,
}

impl Writer {
    /// Runs until the queue is closed; what is in it then is still written.
    fn run(mut self) {
        self.work.stats.set_connected(true);
        while let Some(batch) = self.work.queue.recv() {
            self.add(&batch);
            while self.lines.len() < WRITE_BYTES
                && let Some(batch) = self.work.queue.try_recv()
            {
                self.add(&batch);
            }
            self.write();
        }
        self.work.stats.set_connected(false);
    }

    fn add(&mut self, batch: &MessageBatch) {
        for Outgoing { topic, payload, .. } in batch.iter() {
            add_line(&mut self.lines, topic, payload);
            self.held.bytes += (topic.len() + payload.len()) as u64;
        }
        self.held.messages += batch.len() as u64;
        self.held.weight += batch.weight();
        self.held.receipts.push(batch.receipt.clone());
    }

    fn write(&mut self) {
        let held = std::mem::take(&mut self.held);
        let line_end: &[u8] = if self.ends_in_a_line { b"" } else { b"\n" };
        match self.file.write_all(line_end).and_then(|()| self.file.write_all(&self.lines)) {
            Ok(()) => {
                self.ends_in_a_line = true;
                self.work.stats.add_published(held.messages, held.bytes);
                self.failures.reset();
            }
            Err(error) => {
                self.ends_in_a_line = false;
                self.work.stats.add_failures(held.messages);
                if let Some(writes) = self.failures.due() {
                    warn!(sink = %self.work.name, %error, messages = held.messages, writes, "lines not written");
                }
            }
        }
        self.work.stats.batch_done(held.weight);
        self.lines.clear();
    }
}

fn add_line(lines: &mut Vec<u8>, topic: &str, payload: &[u8]) {
    lines.extend_from_slice(b"{\"topic\":");
    add_text(lines, topic);
    if serde_json::from_slice::<IgnoredAny>(payload).is_ok()
        && let Ok(json) = std::str::from_utf8(payload)
    {
        lines.extend_from_slice(b",\"payload\":");
        let begin = lines.len();
        lines.extend_from_slice(json.trim_ascii().as_bytes());
        // In JSON a line break can only stand between tokens, where a blank says the same.
        lines[begin..]
            .iter_mut()
            .filter(|byte| matches!(**byte, b'\n' | b'\r'))
            .for_each(|byte| *byte = b' ');
    } else if let Ok(text) = std::str::from_utf8(payload) {
        lines.extend_from_slice(b",\"payload_text\":");
        add_text(lines, text);
    } else {
        lines.extend_from_slice(b",\"payload_base64\":");
        add_text(lines, &BASE64_STANDARD.encode(payload));
    }
    lines.extend_from_slice(b"}\n");
}

fn add_text(lines: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(lines, text).expect("a text is written to memory as JSON without fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Closed;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    fn batch(messages: &[(&str, &[u8])]) -> MessageBatch {
        let mut batch = MessageBatch::default();
        messages.iter().for_each(|(topic, payload)| assert!(batch.push(topic, payload, false)));
        batch
    }

    #[test]
    fn lines_hold_the_payload_as_it_is() {
        let check = |payload: &[u8], expected: &str| {
            let mut lines = Vec::new();
            add_line(&mut lines, "a/\"b\"", payload);
            let line = String::from_utf8(lines).expect("text");
            assert_eq!(line, format!("{{\"topic\":\"a/\\\"b\\\"\",{expected}}}\n"));
        };
        check(b"{ \"t\" : 1.50 }", "\"payload\":{ \"t\" : 1.50 }");
        check(b"{\n\t\"t\":1}\r\n", "\"payload\":{ \t\"t\":1}");
        check(b"12", "\"payload\":12");
        check(b"", "\"payload_text\":\"\"");
        check(b"on\noff", "\"payload_text\":\"on\\noff\"");
        check(b"{} {}", "\"payload_text\":\"{} {}\"");
        check(b"\xff\x00", "\"payload_base64\":\"/wA=\"");
    }

    #[test]
    fn what_was_offered_is_in_the_file_once_closed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out.jsonl");
        std::fs::write(&path, "half a line").expect("written");
        let sink = start("out", &FileSettings::new(&path)).expect("started");
        sink.offer(batch(&[("a", b"1"), ("b", b"2")])).expect("room");
        sink.offer(batch(&[("c", b"3")])).expect("room");
        let stats = sink.stats.clone();
        assert_eq!(sink.close(Duration::from_secs(60)), Closed { published: 3, unpublished: 0 });
        let expected = "half a line\n{\"topic\":\"a\",\"payload\":1}\n{\"topic\":\"b\",\"payload\":2}\n{\"topic\":\"c\",\"payload\":3}\n";
        assert_eq!(std::fs::read_to_string(&path).expect("the file"), expected);
        assert_eq!((stats.bytes.load(Ordering::Relaxed), stats.failures.load(Ordering::Relaxed)), (6, 0));
    }

    #[test]
    fn a_disk_that_is_full_is_counted_and_survived() {
        let sink = start("out", &FileSettings::new("/dev/full")).expect("started");
        sink.offer(batch(&[("a", b"1"), ("b", b"2")])).expect("room");
        let stats = sink.stats.clone();
        assert_eq!(sink.close(Duration::from_secs(60)), Closed { published: 0, unpublished: 2 });
        assert_eq!(stats.failures.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_folder_that_is_missing_is_named() {
        let error = start("out", &FileSettings::new("/nowhere/out.jsonl")).err().expect("no such folder");
        assert!(error.to_string().contains("/nowhere/out.jsonl"), "{error}");
    }
}
