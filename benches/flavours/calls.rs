//! What a call costs: in the engine beside the same update without it, outside by itself; and what many functions
//! cost beside one.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use connectors::function::{Answer, Call, CallKey, FunctionRunner, Inbox};
use operators::functions::FUNCTIONS_MAX;
use operators::twin::TwinType;

use crate::Settings;
use crate::flavour::{BATCHED, Kind, with_functions};
use crate::site::plan;
use crate::table::{Many, Table, quantile};
use crate::update_cost::update_ns;
use crate::used::Used;

const UPDATES: usize = 100;
/// Calls that are under way at once, where there are many.
const UNDER_WAY: usize = 1_024;
/// What is not under way any more has failed.
const PATIENCE: Duration = Duration::from_secs(60);
const INSIDE: [Kind; 3] = [Kind::Linear, Kind::Cel, Kind::Wasm];
/// What an update of one property is told as.
const BODY: &[u8] = br#"{"twin":"p-1","type":"device","update":42,"physical_at":"2026-11-26T10:00:00.000Z","arrived_at":"2026-11-26T10:00:00.001Z","properties":{"t":24.28}}"#;
const OUTSIDE: [Kind; 5] = [Kind::Python, Kind::http(0), BATCHED, Kind::http(5), Kind::http(50)];

/// Calls by flavour, and many functions.
pub fn measure(settings: &Settings) -> Vec<Table> {
    vec![inside(settings), outside(settings)]
}

/// Functions of a type that are measured beside each other.
const COUNTS: [usize; 3] = [1, 8, FUNCTIONS_MAX];

fn inside(settings: &Settings) -> Table {
    let mut table = Table::new(
        format!(
            "In the engine: microseconds that a function adds to steps 2 to 4 of an update; {} runs",
            settings.runs
        ),
        ["function", "paper"]
            .into_iter()
            .map(String::from)
            .chain(COUNTS.map(|count| format!("each of {count}"))),
    );
    let definition = |kind: Kind, count: usize| {
        let functions: Vec<(String, String)> =
            (0..count).map(|number| (format!("f{number}"), kind.function(settings, None, 32))).collect();
        let text = with_functions(&functions, "mqtt://127.0.0.1:1", settings.window, settings.window);
        plan(&text).types.remove(0)
    };
    let nothing = definition(Kind::Nothing, 0);
    let cases: Vec<(Kind, Vec<TwinType>)> = INSIDE
        .iter()
        .map(|kind| (*kind, COUNTS.iter().map(|count| definition(*kind, *count)).collect()))
        .collect();
    let mut all = vec![vec![Many::default(); COUNTS.len()]; INSIDE.len()];
    for _ in 0..settings.runs {
        for ((_, definitions), all) in cases.iter().zip(&mut all) {
            for ((definition, count), many) in definitions.iter().zip(COUNTS).zip(all) {
                // In turn, and the least of some rounds, so that a machine that changes its pace changes both.
                let mut least = [f64::MAX; 2];
                for _ in 0..5 {
                    for (least, one) in least.iter_mut().zip([&nothing, definition]) {
                        *least = least.min(update_ns(one, UPDATES, &[]));
                    }
                }
                many.add((least[1] - least[0]) / count as f64 / 1e3);
            }
        }
    }
    for ((kind, _), all) in cases.iter().zip(&all) {
        table.row(kind.names().into_iter().chain(all.iter().map(|many| many.show(3))));
    }
    table
}

fn outside(settings: &Settings) -> Table {
    let mut table = Table::new(
        format!(
            "Outside: microseconds of a call by itself, warm; one at a time, and {UNDER_WAY} under way; {} runs of {} s each",
            settings.runs,
            settings.measured.div_f64(2.0).as_secs_f64()
        ),
        [
            "function",
            "paper",
            "one at a time, p50",
            "p99",
            "many, each",
            "CPU of the engine",
            "of Python",
            "of the endpoint",
        ],
    );
    let mut all = vec![<[Many; 6]>::default(); OUTSIDE.len()];
    for _ in 0..settings.runs {
        for (kind, many) in OUTSIDE.iter().zip(&mut all) {
            let values = measured(*kind, settings);
            many.iter_mut().zip(values).for_each(|(many, value)| many.add(value));
        }
    }
    for (kind, many) in OUTSIDE.iter().zip(&all) {
        table.row(kind.names().into_iter().chain(many.iter().map(|many| many.show(1))));
    }
    table
}

/// Microseconds of a call: alone, the half and nearly all; among many; and the CPU of those.
fn measured(kind: Kind, settings: &Settings) -> [f64; 6] {
    let endpoint = kind.endpoint(settings);
    let text = kind.job(settings, "mqtt://127.0.0.1:1", endpoint.as_ref(), 1, PATIENCE);
    let function = plan(&text).functions.remove(0).remove(0);
    let caller = Caller::new((function.open)().expect("it can be opened"));
    caller.call();
    caller.answers();
    let half = settings.measured.div_f64(2.0);
    let (begin, mut alone) = (Instant::now(), Vec::new());
    while begin.elapsed() < half {
        let called = Instant::now();
        caller.call();
        caller.answers();
        alone.push(called.elapsed().as_secs_f64() * 1e6);
    }
    let (begin, used) = (Instant::now(), Used::now());
    let (mut called, mut answered) = (0, 0);
    while begin.elapsed() < half || answered < called {
        while begin.elapsed() < half && called < answered + UNDER_WAY {
            caller.call();
            called += 1;
        }
        answered += caller.answers();
    }
    let (took, used) = (begin.elapsed().as_secs_f64(), Used::since(used));
    let each = |seconds: f64| seconds * 1e6 / answered as f64;
    let [p50, p99] = [0.5, 0.99].map(|share| quantile(&mut alone, share));
    [p50, p99, each(took), each(used.engine), each(used.python), each(used.endpoint)]
}

/// Calls a function as a worker does.
struct Caller {
    function: Arc<dyn FunctionRunner>,
    inbox: Arc<Inbox>,
    key: Arc<CallKey>,
}

impl Caller {
    fn new(function: Arc<dyn FunctionRunner>) -> Self {
        let inbox = Arc::new(Inbox::default());
        let thread = std::thread::current();
        inbox.set_waker(Arc::new(move || thread.unpark()));
        let key = CallKey {
            job: "flavours".into(),
            twin: "p-1".into(),
            twin_type: "device".into(),
            update: 42,
            function: "f".into(),
            version: 1,
        };
        Self { function, inbox, key: Arc::new(key) }
    }

    fn call(&self) {
        let call = Call {
            ticket: 0,
            key: self.key.clone(),
            body: BODY.to_vec(),
            deadline: Instant::now() + PATIENCE,
            inbox: self.inbox.clone(),
        };
        self.function.call(call).expect("there is room");
    }

    /// Waits until there are answers, and takes them; how many.
    fn answers(&self) -> usize {
        loop {
            let answers = self.inbox.take();
            if !answers.is_empty() {
                for Answer { result, .. } in &answers {
                    black_box(result.as_ref().expect("no call fails"));
                }
                return answers.len();
            }
            std::thread::park();
        }
    }
}
