//! Asks the program's own server, as any client would.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::{LONG, until};

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its head, as it came.
    pub head: String,
    /// Its body.
    pub body: String,
}

impl Answer {
    /// The body, which is JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Asks a loopback port; none while nobody answers.
pub fn ask(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<Answer> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    write!(socket, "{head}Content-Length: {length}\r\n{headers}\r\n{body}").ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// The status and body of a page on a loopback port; none while nobody answers.
pub fn get(port: u16, path: &str) -> Option<(u16, String)> {
    ask(port, "GET", path, &[], "").map(|answer| (answer.status, answer.body))
}

/// A stream of server-sent events.
pub struct Stream {
    lines: BufReader<TcpStream>,
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Its id; empty where it has none.
    pub id: String,
    /// Its data, which are JSON.
    pub data: Value,
}

impl Stream {
    /// Follows from now on, or behind the event with this id.
    pub fn open(port: u16, path: &str, last: Option<&str>) -> Self {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        socket.set_read_timeout(Some(LONG)).expect("a timeout that is not zero");
        let last = last.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\n{last}\r\n").expect("the server reads");
        let mut lines = BufReader::new(socket);
        let mut line = String::new();
        lines.read_line(&mut line).expect("the server answers");
        assert!(line.contains(" 200 "), "{path}: {line}");
        Self { lines }
    }

    /// The next event.
    pub fn next(&mut self) -> Event {
        let (mut name, mut id) = (String::new(), String::new());
        until("an event", || {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).expect("the server goes on");
            assert!(read > 0, "the server ended the stream");
            match line.trim_end().split_once(": ") {
                Some(("event", text)) => name = text.to_owned(),
                Some(("id", text)) => id = text.to_owned(),
                Some(("data", text)) => {
                    let data = serde_json::from_str(text).expect("data are JSON");
                    return Some(Event { name: name.clone(), id: id.clone(), data });
                }
                // What stands around a chunk, and comments that keep the connection.
                _ => {}
            }
            None
        })
    }
}
