//! Functions in process that are too heavy for the worker of their twin (`spread: true`): they leave the chain and
//! come back (rule 6.3), as calls that a few threads beside the workers share.
//!
//! ```text
//!   worker 0 ─ calls ─┐              ┌─ thread 0 ─┐
//!   worker 1 ─ calls ─┴─► queue ─────┼─ thread 1 ─┼─► inbox of the worker that asked
//!                                    └─ ..       ─┘
//! ```
//! So the calls of one twin, or those of a few twins that stand on one worker, take all cores, and no other twin waits
//! for them. Threads are there only while there is work. Answers meet their update as those of any function outside.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use connectors::function::{Answer, Call, Failure, FailureKind, FunctionRunner, Status};
use connectors::on_call::OnCall;
use operators::functions::HostHandle;
use serde_json::{Map, Value as Json, json};

/// Bytes of calls that wait for a thread, of one function. One more fails, or waits where input is recorded.
const QUEUE_BYTES_MAX: usize = 16 << 20;

/// What a function is called with.
#[derive(Clone, Debug)]
pub enum Form {
    /// A JSON object, as it came.
    Body,
    /// The values of these properties; what it gives is the value of what it writes.
    Numbers {
        /// Names of the properties, in the order of what it takes.
        of: Vec<String>,
        /// Name of what it writes.
        yields: String,
    },
}

/// Runs the calls of one function on `threads` threads.
pub fn start(name: &str, host: HostHandle, form: Form, threads: usize) -> Arc<dyn FunctionRunner> {
    let desk = Arc::new(Desk { host, form, queue: Mutex::default(), running: AtomicU64::new(0) });
    let hand = |number: usize| {
        let desk = desk.clone();
        OnCall::new(&format!("{name}-{number}"), move || {
            while let Some(call) = desk.next() {
                desk.answer(call);
            }
            ControlFlow::Continue(())
        })
    };
    let hands = (0..threads.max(1)).map(hand).collect();
    Arc::new(Spread { desk, hands })
}

struct Spread {
    desk: Arc<Desk>,
    hands: Vec<OnCall>,
}

/// Where calls wait for a thread.
struct Desk {
    host: HostHandle,
    form: Form,
    queue: Mutex<Queue>,
    /// Calls that are being made.
    running: AtomicU64,
}

#[derive(Default)]
struct Queue {
    calls: VecDeque<Call>,
    bytes: usize,
}

impl FunctionRunner for Spread {
    fn call(&self, call: Call) -> Result<(), Call> {
        let busy = {
            let mut queue = self.desk.queue();
            if queue.bytes + call.body.len() > QUEUE_BYTES_MAX && !queue.calls.is_empty() {
                return Err(call);
            }
            queue.bytes += call.body.len();
            queue.calls.push_back(call);
            queue.calls.len() + self.desk.running.load(Ordering::SeqCst) as usize
        };
        // Of so many, as many as wait are idle, whichever are at work.
        self.hands.iter().take(busy).for_each(OnCall::call);
        Ok(())
    }

    fn status(&self) -> Status {
        let running = self.desk.running.load(Ordering::SeqCst);
        let in_flight = self.desk.queue().calls.len() as u64 + running;
        Status { in_flight, is_open: false, instances: running }
    }
}

impl Desk {
    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next call, which counts as running from now on.
    fn next(&self) -> Option<Call> {
        let mut queue = self.queue();
        let call = queue.calls.pop_front()?;
        queue.bytes -= call.body.len();
        self.running.fetch_add(1, Ordering::SeqCst);
        Some(call)
    }

    fn answer(&self, call: Call) {
        let result = match Instant::now() < call.deadline {
            true => self.result(&call.body),
            false => Err(Failure::new(FailureKind::Timeout, "its turn came too late")),
        };
        self.running.fetch_sub(1, Ordering::SeqCst);
        call.inbox.put([Answer { ticket: call.ticket, result }]);
    }

    fn result(&self, body: &[u8]) -> Result<Vec<u8>, Failure> {
        let failure = |message: String| Failure::new(FailureKind::Error, message);
        match &self.form {
            Form::Body => {
                let mut answer = Vec::new();
                self.host.0.call_body(body, &mut answer).map_err(failure)?;
                Ok(answer)
            }
            Form::Numbers { of, yields } => {
                let told: Told = serde_json::from_slice(body).map_err(|error| failure(error.to_string()))?;
                let inputs: Vec<f64> = of.iter().map(|name| number(told.properties.get(name))).collect();
                let result = self.host.0.call_numbers(&inputs).map_err(failure)?;
                match result {
                    Some(result) if !result.is_finite() => Err(failure(format!("its result is {result}"))),
                    result => Ok(json!({ yields.as_str(): result }).to_string().into_bytes()),
                }
            }
        }
    }
}

/// What of a call a function of numbers needs.
#[derive(serde::Deserialize)]
struct Told {
    properties: Map<String, Json>,
}

/// As a function of numbers takes it; not a number where there is none.
fn number(value: Option<&Json>) -> f64 {
    match value {
        Some(Json::Bool(flag)) => f64::from(u8::from(*flag)),
        Some(value) => value.as_f64().unwrap_or(f64::NAN),
        None => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::time::Duration;

    use connectors::function::{CallKey, Inbox};
    use operators::functions::{Host, Takes};

    use super::*;

    /// Doubles, once as many calls are made at once as the barrier wants.
    struct Together(Barrier);

    impl Host for Together {
        fn kind(&self) -> &'static str {
            "wasm"
        }

        fn takes(&self) -> Takes {
            Takes::Numbers(1)
        }

        fn call_numbers(&self, inputs: &[f64]) -> Result<Option<f64>, String> {
            self.0.wait();
            match inputs {
                [t] if *t < 0.0 => Err("trap: it is negative".into()),
                [t] => Ok(Some(t * 2.0).filter(|q| *q < 1e9)),
                _ => Err("one number".into()),
            }
        }

        fn call_body(&self, body: &[u8], answer: &mut Vec<u8>) -> Result<(), String> {
            self.0.wait();
            answer.extend_from_slice(body);
            Ok(())
        }
    }

    fn call(ticket: u64, body: &str, inbox: &Arc<Inbox>, deadline: Instant) -> Call {
        let key = CallKey {
            job: "line".into(),
            twin: "p".into(),
            twin_type: "press".into(),
            update: ticket,
            function: "q".into(),
            version: 1,
        };
        Call { ticket, key: Arc::new(key), body: body.into(), deadline, inbox: inbox.clone() }
    }

    /// Answers by ticket, once there are so many.
    fn answers(inbox: &Arc<Inbox>, count: usize) -> Vec<(u64, Result<String, String>)> {
        let (woken, wakes) = std::sync::mpsc::channel();
        inbox.set_waker(Arc::new(move || _ = woken.send(())));
        let mut all = Vec::new();
        loop {
            all.extend(inbox.take().into_iter().map(|one| {
                let text = one.result.map(|json| String::from_utf8_lossy(&json).into_owned());
                (one.ticket, text.map_err(|failure| failure.to_string()))
            }));
            if all.len() >= count {
                all.sort();
                return all;
            }
            wakes.recv_timeout(Duration::from_secs(60)).expect("answers come");
        }
    }

    #[test]
    fn calls_are_made_at_once_on_all_threads() {
        let (host, inbox) = (HostHandle(Arc::new(Together(Barrier::new(4)))), Arc::new(Inbox::default()));
        let form = Form::Numbers { of: vec!["t".into()], yields: "q".into() };
        let spread = start("q", host, form, 4);
        let later = Instant::now() + Duration::from_secs(3_600);
        for (ticket, t) in
            [(0, "1"), (1, "-1"), (2, "true"), (3, "1e12"), (4, "2"), (5, "3"), (6, "4"), (7, "5")]
        {
            let body = format!(r#"{{"twin":"p","properties":{{"t":{t}}}}}"#);
            assert!(spread.call(call(ticket, &body, &inbox, later)).is_ok());
        }
        let q = |q: &str| Ok(format!("{{\"q\":{q}}}"));
        let trap = Err("error: trap: it is negative".to_owned());
        let expected = [q("2.0"), trap, q("2.0"), q("null"), q("4.0"), q("6.0"), q("8.0"), q("10.0")];
        assert_eq!(answers(&inbox, 8), (0..).zip(expected).collect::<Vec<_>>());
        assert_eq!(spread.status(), Status::default());
    }

    #[test]
    fn what_has_no_room_is_given_back_and_what_is_too_late_is_not_made() {
        let (host, inbox) = (HostHandle(Arc::new(Together(Barrier::new(2)))), Arc::new(Inbox::default()));
        let spread = start("q", host.clone(), Form::Body, 1);
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(3_600));
        let long = format!("\"{}\"", "x".repeat(QUEUE_BYTES_MAX * 2 / 3));
        assert!(spread.call(call(0, "{}", &inbox, later)).is_ok());
        // The first is being made, and does not end before the test wants it to.
        while spread.status().instances == 0 {
            std::thread::yield_now();
        }
        assert!(spread.call(call(1, &long, &inbox, now)).is_ok());
        assert!(spread.call(call(2, &long, &inbox, now)).is_err());
        assert_eq!(spread.status().in_flight, 2);
        host.0.call_body(b"", &mut Vec::new()).expect("it answers");
        let late = Err("timeout: its turn came too late".to_owned());
        assert_eq!(answers(&inbox, 2), [(0, Ok("{}".to_owned())), (1, late)]);
    }
}
