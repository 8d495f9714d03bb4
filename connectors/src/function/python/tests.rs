//! Functions in the Python of this machine: what they answer, and what becomes of those that misbehave.

mod checks;
mod misuse;

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::*;
use crate::function::allowance::USED_UP;
use crate::function::{Allowance, Answer, CallKey, FailureKind, Inbox, Meter};

/// Longer than anything takes that works.
const LONG: Duration = Duration::from_secs(60);

/// What became of a call.
type Outcome = Result<Value, (FailureKind, String)>;

/// A function with somebody who calls it.
struct Caller {
    function: Arc<PythonFunction>,
    inbox: Arc<Inbox>,
    woken: mpsc::Receiver<()>,
    tickets: u64,
}

impl Caller {
    fn new(source: &str) -> Self {
        Self::with(PythonSettings::default(), source)
    }

    fn with(settings: PythonSettings, source: &str) -> Self {
        let (wake, woken) = mpsc::channel();
        let inbox = Arc::new(Inbox::default());
        inbox.set_waker(Arc::new(move || {
            // Nobody is to be woken at the end of a test.
            let _ = wake.send(());
        }));
        let function = start("doubler", source, settings).expect("the settings are good");
        Self { function, inbox, woken, tickets: 0 }
    }

    fn call(&mut self, body: &Value, within: Duration) -> Result<u64, Call> {
        let key = CallKey {
            job: "job".into(),
            twin: "twin".to_owned(),
            twin_type: "type".into(),
            update: self.tickets,
            function: "doubler".into(),
            version: 1,
        };
        self.tickets += 1;
        self.function.call(Call {
            ticket: self.tickets,
            key: Arc::new(key),
            body: body.to_string().into_bytes(),
            deadline: Instant::now() + within,
            inbox: self.inbox.clone(),
        })?;
        Ok(self.tickets)
    }

    /// So many answers by their tickets, of which no two are the same.
    fn answers(&self, count: usize) -> BTreeMap<u64, Outcome> {
        let mut answers = BTreeMap::new();
        while answers.len() < count {
            self.woken.recv_timeout(LONG).expect("every call is answered");
            for Answer { ticket, result } in self.inbox.take() {
                let outcome = result
                    .map(|body| serde_json::from_slice(&body).expect("an answer is JSON"))
                    .map_err(|failure| (failure.kind, failure.message));
                assert_eq!(answers.insert(ticket, outcome), None, "call {ticket} was answered twice");
            }
        }
        answers
    }

    fn ask_within(&mut self, body: Value, within: Duration) -> Outcome {
        let ticket = self.call(&body, within).expect("there is room");
        self.answers(1).remove(&ticket).expect("the answer is of the call")
    }

    fn ask(&mut self, body: Value) -> Outcome {
        self.ask_within(body, LONG)
    }
}

/// Waits for something that happens by itself.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LONG, "{what}");
        std::thread::yield_now();
    }
}

/// Whether the system has no process of that number that runs.
fn is_gone(pid: &Value) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

const DOUBLE: &str = "
def f(state):
    return {'double': state['value'] * 2}
";

const PID: &str = "
import os
def f(state):
    while 'loop' in state: pass
    return {'pid': os.getpid()}
";

#[test]
fn properties_are_the_state_and_what_else_is_said_its_attributes() {
    let source =
        "def f(state):\n    return {'t': state['t'] + 1, 'twin': state.twin, 'all': sorted(state)}\n";
    let mut caller = Caller::new(source);
    let call = json!({"twin": "p-1", "properties": {"t": 1, "twin": 2}});
    let ticket = caller.call(&call, LONG).expect("there is room");
    let expected = json!({"t": 2, "twin": "p-1", "all": ["t", "twin"]});
    assert_eq!(caller.answers(1)[&ticket], Ok(expected));
}

#[test]
fn each_call_has_its_own_answer() {
    for (processes, batch) in [(1, 256), (1, 1), (3, 7)] {
        let settings = PythonSettings { processes, batch, ..PythonSettings::default() };
        let mut caller = Caller::with(settings, DOUBLE);
        let values = 0..500;
        let tickets: Vec<u64> = values
            .clone()
            .map(|value| caller.call(&json!({"value": value}), LONG).expect("there is room"))
            .collect();
        let answers = caller.answers(tickets.len());
        for (value, ticket) in values.zip(tickets) {
            assert_eq!(answers[&ticket], Ok(json!({"double": value * 2})));
        }
        assert_eq!(caller.function.status().in_flight, 0);
    }
}

/// However many processes there may be: they have calls one after the other where there is a second a second.
#[test]
fn functions_time_is_shared_by_processes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let lock = folder.path().join("lock");
    std::fs::write(&lock, "").expect("the folder is ours");
    let source = format!(
        "
import fcntl
def f(state):
    with open({lock:?}) as lock:
        # It fails where somebody else has it.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for _ in range(20_000): pass
    return {{}}
"
    );
    let mut caller =
        Caller::with(PythonSettings { processes: 4, batch: 1, ..PythonSettings::default() }, &source);
    let allowance = Arc::new(Allowance::new(1.0));
    let other = Arc::new(Meter::new(Arc::new(|| {})));
    let function = caller.function.clone();
    let meter = function.meter().expect("it is measured");
    for meter in [meter, &other] {
        meter.draw_on(std::slice::from_ref(&allowance));
    }
    let used = other.begin().expect("nobody else uses it");
    let late = caller.ask_within(json!({}), Duration::from_millis(20));
    assert_eq!(late, Err((FailureKind::Timeout, USED_UP.to_owned())));
    (0..40).for_each(|_| _ = caller.call(&json!({}), LONG).expect("there is room"));
    until("calls are held", || meter.held() >= 2);
    drop(used);
    assert!(caller.answers(40).values().all(|outcome| *outcome == Ok(json!({}))));
    assert!(meter.spent() > Duration::ZERO);
}

#[test]
fn what_a_function_may_return() {
    let mut caller = Caller::new(
        "
class Sensor:
    pass

def answer(state):
    return eval(state['answer'])
",
    );
    let mut check = |answer: &str, expected: Outcome| {
        assert_eq!(caller.ask(json!({"answer": answer})), expected, "{answer}");
    };
    let error = |message: &str| Err((FailureKind::Error, message.to_owned()));
    check("None", Ok(json!({})));
    check(
        "{'a': [1, 2.5, 'x', None, True, {'b': 'ü'}]}",
        Ok(json!({"a": [1, 2.5, "x", null, true, {"b": "ü"}]})),
    );
    check("{1: 2}", Ok(json!({"1": 2})));
    check("[1]", error("it returned list; return a dict, or None for nothing"));
    check("1.5", error("it returned float; return a dict, or None for nothing"));
    check("Sensor()", error("it returned Sensor; return a dict, or None for nothing"));
    let no_json = "what it returned cannot be written as JSON: ";
    for answer in
        ["{'a': float('nan')}", "{'a': float('inf')}", "{'a': {1, 2}}", "{'a': '\\ud800'}", "{(1, 2): 3}"]
    {
        let Err((kind, message)) = caller.ask(json!({"answer": answer})) else { panic!("{answer} is taken") };
        assert!(kind == FailureKind::Error && message.starts_with(no_json), "{answer}: {message}");
    }
}

#[test]
fn an_exception_is_told_with_its_line() {
    let mut caller = Caller::new(
        "
import json

class Strange(Exception):
    def __str__(self):
        raise ValueError

def helper(state):
    return 1 / state['zero']

def f(state):
    if 'zero' in state:
        helper(state)
    if 'text' in state:
        json.loads(state['text'])
    if 'strange' in state:
        raise Strange
    if 'exit' in state:
        raise SystemExit(3)
    return f(state)
",
    );
    let mut check = |body: Value, expected: &str| {
        let outcome = caller.ask(body.clone());
        let Err((FailureKind::Error, message)) = &outcome else { panic!("{body}: {outcome:?}") };
        assert!(message.starts_with(expected), "{body}: {message}");
    };
    // There are two public functions, and `f` is the one.
    check(json!({"zero": 0}), "ZeroDivisionError: division by zero (line 9)");
    check(json!({"text": "{"}), "JSONDecodeError: Expecting property name");
    check(json!({"strange": 1}), "Strange (line 17)");
    check(json!({"exit": 1}), "SystemExit: 3 (line 19)");
    check(json!({}), "RecursionError: maximum recursion depth exceeded");
    assert_eq!(caller.function.status().instances, 1);
}

#[test]
fn an_answer_over_the_limit_is_told() {
    let settings = PythonSettings { output_max: ByteSize::kb(1), ..PythonSettings::default() };
    let mut caller = Caller::with(settings, "def f(state):\n    return {'x': 'x' * state['size']}\n");
    // Quotes, braces and the name are 8 bytes.
    assert!(caller.ask(json!({"size": 1_000 - 8})).is_ok());
    let (kind, message) = caller.ask(json!({"size": 1_000 - 7})).expect_err("it is too large");
    assert_eq!(kind, FailureKind::TooLarge);
    assert!(message.contains("1001 bytes"), "{message}");
}

#[test]
fn large_bodies_and_answers_pass() {
    let mut caller = Caller::new("def f(state):\n    return {'x': state['x'], 'y': len(state['x'])}\n");
    let sizes = [1, 70_000, 900_000, 65_536, 10, 400_000, 900_000, 900_000];
    let tickets: Vec<u64> = sizes
        .iter()
        .map(|size| caller.call(&json!({"x": "x".repeat(*size)}), LONG).expect("there is room"))
        .collect();
    let answers = caller.answers(sizes.len());
    for (size, ticket) in sizes.iter().zip(tickets) {
        assert_eq!(answers[&ticket], Ok(json!({"x": "x".repeat(*size), "y": size})));
    }
}

#[test]
fn processes_come_with_calls_and_go_when_unused() {
    let mut caller = Caller::new(PID);
    assert_eq!(caller.function.status().instances, 0);
    let first = caller.ask(json!({})).expect("it answers");
    assert_eq!(caller.ask(json!({})), Ok(first.clone()));
    assert_eq!(caller.function.status().instances, 1);
    let idle = PythonSettings::default().idle;
    caller.function.stop_unused(Instant::now() + idle / 2);
    assert_eq!(caller.ask(json!({})), Ok(first.clone()));
    // It may begin to wait a moment after its answer is here.
    caller.function.stop_unused(Instant::now() + idle * 2);
    until("the process is stopped", || caller.function.status().instances == 0);
    assert!(is_gone(&first["pid"]));
    assert_ne!(caller.ask(json!({})), Ok(first));
}

#[test]
fn a_process_that_died_while_unused_is_nobodys_fault() {
    let mut caller = Caller::new(PID);
    let dying = caller.ask(json!({})).expect("it answers");
    let pid = dying["pid"].as_i64().and_then(|pid| Pid::from_raw(pid as i32)).expect("a number");
    kill_process(pid, Signal::KILL).expect("it is there");
    until("the process dies", || is_gone(&dying["pid"]));
    let next = caller.ask(json!({})).expect("another process answers");
    assert_ne!(next, dying);
}

#[test]
fn the_last_handle_ends_what_runs() {
    let settings = PythonSettings { batch: 1, ..PythonSettings::default() };
    let mut caller = Caller::with(settings, PID);
    let running = caller.ask(json!({})).expect("it answers");
    let tickets =
        [json!({"loop": 1}), json!({})].map(|body| caller.call(&body, LONG).expect("there is room"));
    let (inbox, woken) = (caller.inbox.clone(), caller.woken);
    drop(caller.function);
    let mut stopped = Vec::new();
    while stopped.len() < tickets.len() {
        woken.recv_timeout(LONG).expect("every call is answered");
        stopped.extend(inbox.take());
    }
    stopped.sort_by_key(|answer| answer.ticket);
    for (answer, ticket) in stopped.iter().zip(tickets) {
        assert_eq!(answer.ticket, ticket);
        let failure = answer.result.as_ref().expect_err("nobody is there to answer it");
        assert_eq!(failure.kind, FailureKind::Unavailable);
    }
    until("the process is gone", || is_gone(&running["pid"]));
}

#[test]
fn what_does_not_fit_is_given_back() {
    let settings = PythonSettings { queue: ByteSize::kb(2), batch: 1, ..PythonSettings::default() };
    let mut caller = Caller::with(settings, "def f(state):\n    while 'loop' in state: pass\n");
    let mut taken = Vec::new();
    let refused = loop {
        match caller.call(&json!({"loop": "x".repeat(100)}), Duration::from_millis(500)) {
            Ok(ticket) => taken.push(ticket),
            Err(call) => break call,
        }
    };
    assert_eq!(refused.ticket, taken.len() as u64 + 1);
    assert!(taken.len() < 50, "{}", taken.len());
    let answers = caller.answers(taken.len());
    assert!(answers.values().all(|outcome| matches!(outcome, Err((FailureKind::Timeout, _)))), "{answers:?}");
}

#[test]
fn the_users_code_sees_little_of_the_engine() {
    let mut caller = Caller::new(
        "
import os, sys
def f(state):
    try:
        read = input()
    except EOFError:
        read = 'nothing'
    return {'names': sorted(os.environ), 'read': read, 'argv': sys.argv, 'here': '' in sys.path, 'set': list({'a', 'b', 'c'})}
",
    );
    let answer = caller.ask(json!({})).expect("it answers");
    let names = answer["names"].as_array().expect("a list");
    // The interpreter may be a script that sets some of its own.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let is_the_engines = |name: &Value| name.as_str().is_some_and(|name| name.starts_with("CARGO"));
    assert!(!names.iter().any(is_the_engines), "{answer}");
    assert_eq!(
        (&answer["read"], &answer["argv"], &answer["here"]),
        (&json!("nothing"), &json!(["-c"]), &json!(false))
    );
    caller.function.stop_unused(Instant::now() + PythonSettings::default().idle * 2);
    until("the process is stopped", || caller.function.status().instances == 0);
    assert_eq!(caller.ask(json!({})), Ok(answer), "another process orders sets in the same way");
}
