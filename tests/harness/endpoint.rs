//! A function behind HTTP, in this process: it is told each call as JSON, and answers what the test says. It can
//! be held, so that calls are in flight for as long as a test wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use serde_json::Value;

use super::until;

/// A call as it came.
#[derive(Clone, Debug)]
pub struct Called {
    /// What makes it the same one when it is made again.
    pub key: String,
    /// Its body.
    pub body: Value,
}

/// An endpoint on a port of its own.
pub struct Endpoint {
    /// Where it is called.
    pub url: String,
    shared: Arc<Shared>,
}

/// What a body is answered with: a status and a body.
type Function = Box<dyn Fn(&Value) -> (u16, String) + Send + Sync>;

struct Shared {
    answer: Function,
    called: Mutex<Vec<Called>>,
    is_held: Mutex<bool>,
    released: Condvar,
}

impl Endpoint {
    /// Answers each call with a status and a body.
    pub fn start(answer: impl Fn(&Value) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/f", listener.local_addr().expect("it is bound"));
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            called: Mutex::default(),
            is_held: Mutex::new(false),
            released: Condvar::new(),
        });
        let others = shared.clone();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let shared = others.clone();
                thread::spawn(move || shared.serve(&socket));
            }
        });
        Self { url, shared }
    }

    /// What it was called with so far.
    pub fn called(&self) -> Vec<Called> {
        self.shared.called.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The keys of calls for twins whose id begins so, in the order in which they came.
    pub fn keys_of(&self, prefix: &str) -> Vec<String> {
        let is_of =
            |called: &Called| called.body["twin"].as_str().is_some_and(|twin| twin.starts_with(prefix));
        self.called().into_iter().filter(is_of).map(|called| called.key).collect()
    }

    /// Waits until it was called so often for twins whose id begins so.
    pub fn until_called(&self, prefix: &str, times: usize) {
        let called = || self.keys_of(prefix).len();
        until(&format!("{times} calls of {prefix}"), || (called() >= times).then_some(()));
    }

    /// From now on calls are taken and not answered.
    pub fn hold(&self) {
        *self.shared.is_held.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// What was held is answered, and what comes.
    pub fn release(&self) {
        *self.shared.is_held.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.shared.released.notify_all();
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.release();
    }
}

impl Shared {
    /// Answers the requests of a connection, until the client closes it.
    fn serve(&self, socket: &TcpStream) {
        let mut reader = BufReader::new(socket);
        while let Some(called) = read(&mut reader) {
            let body = called.body.clone();
            self.called.lock().unwrap_or_else(PoisonError::into_inner).push(called);
            let held = self.is_held.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = self.released.wait_while(held, |is_held| *is_held);
            drop(waited);
            let (status, answer) = (self.answer)(&body);
            let length = answer.len();
            let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n");
            let whole = format!("{head}Content-Length: {length}\r\n\r\n{answer}");
            // A client that was killed reads no answer.
            if (&mut &*socket).write_all(whole.as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn read(reader: &mut BufReader<&TcpStream>) -> Option<Called> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    };
    let mut body = vec![0; header("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).expect("a call is JSON");
    Some(Called { key: header("ce-id").unwrap_or_default().to_owned(), body })
}
