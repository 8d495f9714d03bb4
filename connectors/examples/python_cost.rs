//! What a call of a function in Python costs: wall time and CPU time of the engine's side and of Python, one
//! call at a time and many; and what a cold start costs.
//! Run with `cargo run --release -p twinloom-connectors --example python_cost -- [interpreter]`.
//! It measures and judges nothing.

use connectors::function::python::{self, PythonFunction, PythonSettings};
use connectors::function::{Answer, Call, CallKey, FunctionRunner, Inbox};
use std::sync::Arc;
use std::time::{Duration, Instant};

const ALONE: u32 = 10_000;
const MANY: u32 = 300_000;
const ROUNDS: usize = 3;
const BODY: &[u8] = br#"{"temperature": 21.5, "pressure": 1.25, "state": "on", "update": 12345}"#;
const SOURCE: &str = "
import os

def f(state):
    if not state:
        return {'pid': os.getpid()}
    return {'temperature_f': state['temperature'] * 1.8 + 32, 'is_on': state['state'] == 'on'}
";

fn main() {
    let mut settings = PythonSettings::default();
    if let Some(interpreter) = std::env::args().nth(1) {
        settings.interpreter = interpreter;
    }
    let caller = Caller::new(settings);
    let began = Instant::now();
    let answer = caller.ask(b"{}");
    println!("cold start, to the first answer: {:?}", began.elapsed());
    let answer: serde_json::Value = serde_json::from_slice(&answer).expect("it is JSON");
    let pid = answer["pid"].as_u64().expect("its number");
    for _ in 0..ROUNDS {
        measure(pid, "one at a time", ALONE, || {
            for _ in 0..ALONE {
                caller.ask(BODY);
            }
        });
        measure(pid, "many", MANY, || caller.ask_many());
    }
}

fn measure(pid: u64, what: &str, calls: u32, work: impl FnOnce()) {
    let (wall, ours, theirs) = (Instant::now(), cpu("self"), cpu(&pid.to_string()));
    work();
    let us = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(calls);
    println!(
        "{what}: {:.1} us a call; CPU {:.1} us here and {:.1} us in Python",
        us(wall.elapsed()),
        us(cpu("self") - ours),
        us(cpu(&pid.to_string()) - theirs)
    );
}

struct Caller {
    function: Arc<PythonFunction>,
    inbox: Arc<Inbox>,
    key: Arc<CallKey>,
}

impl Caller {
    fn new(settings: PythonSettings) -> Self {
        let inbox = Arc::new(Inbox::default());
        let thread = std::thread::current();
        inbox.set_waker(Arc::new(move || thread.unpark()));
        let key = CallKey {
            job: "cost".into(),
            twin: "twin".to_owned(),
            twin_type: "type".into(),
            update: 0,
            function: "cost".into(),
            version: 1,
        };
        let function = python::start("cost", SOURCE, settings).expect("it is good");
        Self { function, inbox, key: Arc::new(key) }
    }

    fn call(&self, body: &[u8]) -> Result<(), Call> {
        self.function.call(Call {
            ticket: 0,
            key: self.key.clone(),
            body: body.to_vec(),
            deadline: Instant::now() + Duration::from_secs(60),
            inbox: self.inbox.clone(),
        })
    }

    /// The answers that are there, once there is one.
    fn answers(&self) -> Vec<Answer> {
        loop {
            let answers = self.inbox.take();
            if !answers.is_empty() {
                return answers;
            }
            std::thread::park();
        }
    }

    fn ask(&self, body: &[u8]) -> Vec<u8> {
        self.call(body).expect("there is room");
        self.answers().remove(0).result.expect("it works")
    }

    /// As many at once as there is room for.
    fn ask_many(&self) {
        let (mut called, mut answered) = (0, 0);
        while answered < MANY {
            while called < MANY && self.call(BODY).is_ok() {
                called += 1;
            }
            for answer in self.answers() {
                answer.result.expect("it works");
                answered += 1;
            }
        }
    }
}

/// CPU time of all threads of a process so far.
fn cpu(process: &str) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("Linux, and it runs");
    let of_task = |task: std::io::Result<std::fs::DirEntry>| {
        let numbers = std::fs::read_to_string(task.expect("a thread").path().join("schedstat"));
        let nanoseconds: u64 =
            numbers.ok().and_then(|numbers| numbers.split(' ').next()?.parse().ok()).unwrap_or(0);
        Duration::from_nanos(nanoseconds)
    };
    tasks.map(of_task).sum()
}
