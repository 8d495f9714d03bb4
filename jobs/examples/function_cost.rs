//! What a function in process costs an update: nanoseconds of steps 2 to 4 of a twin with the function and without
//! it, of a job file as a user writes it. On one thread, and on two that call the same module at once.
//! Run with `cargo run --release -p twinloom-jobs --features wasm --example function_cost`.
//! It measures and judges nothing.

use std::time::Instant;

use jobs::job::Job;
use operators::batch::{ClaimedTime, EventBatch, HeadParts};
use operators::handler::{DigitalEvents, Entangled, Happened, Lived, Of, Physical, State};
use operators::model::Value;
use operators::steps::{self, Scratch, Update};
use operators::time::{ArrivalTime, DeviceTime, DigitalTime};
use operators::twin::{Twin, TwinType};

const TWINS: usize = 1_000;
const UPDATES: usize = 300;
const ROUNDS: usize = 5;

const JOB: &str = r#"
job: cost
connections: {plant: {file: {path: none.jsonl, clock: recorded}}, out: {file: {path: out.jsonl}}}
types:
  press:
    properties: {t: {type: double}, n: {type: double}, f: {type: double}}
    physical:
      s: {from: plant, topics: ["press/{twin}"], at: arrival, properties: {t: /t, n: /n}, expected_rate: none}
    augmentation: {FUNCTION}
digital: [{to: out}]
"#;

const NUMBERS: &str = r#"(module (func (export "call") (param f64) (result f64)
    (f64.add (f64.mul (local.get 0) (f64.const 1.8)) (f64.const 32))))"#;

/// Looks at nothing, so that what is measured is the way there and back.
const BYTES: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "alloc") (param i32) (result i32) (i32.const 4096))
    (func (export "call") (param i32 i32) (result i64) (i64.const 0x400000000b))
    (data (i32.const 64) "{\"f\": 70.7}"))"#;

/// Digital events are not what is measured.
struct Nobody;

impl DigitalEvents for Nobody {
    fn physical(&mut self, _: Of<'_>, _: &Physical<'_>) {}
    fn state(&mut self, _: Of<'_>, _: &State<'_>) {}
    fn entangled(&mut self, _: Of<'_>, _: &Entangled) {}
    fn lived(&mut self, _: Of<'_>, _: &Lived) {}
    fn happened(&mut self, _: Of<'_>, _: &Happened<'_>) {}
}

fn main() {
    let code = |text: &str| serde_json::Value::from(text).to_string();
    let cases = [
        ("no function", String::new()),
        ("linear", "f: {linear: {of: t, factor: 1.8, offset: 32}}".into()),
        ("cel", "f: {cel: \"t * 1.8 + 32.0\"}".into()),
        ("wasm, a number", format!("f: {{wasm: {{code: {}}}, of: [t]}}", code(NUMBERS))),
        ("wasm, a JSON object", format!("f: {{wasm: {{code: {}}}, of: [t]}}", code(BYTES))),
    ];
    let types: Vec<(&str, TwinType)> = cases
        .iter()
        .map(|(name, function)| {
            let text = JOB.replace("{FUNCTION}", &format!("{{{function}}}"));
            let job = Job::parse("cost.yaml", &text, None).expect("the job is good");
            (*name, job.plan().types.remove(0))
        })
        .collect();
    for threads in [1, 2] {
        // In turn, so that a machine that changes its pace changes all; the least of some rounds.
        let mut least = vec![f64::MAX; types.len()];
        for _ in 0..ROUNDS {
            for (least, (_, definition)) in least.iter_mut().zip(&types) {
                *least = least.min(on_threads(threads, definition));
            }
        }
        for ((name, _), ns) in types.iter().zip(&least) {
            println!("{threads} threads, {name}: {ns:.0} ns an update, {:.0} more", ns - least[0]);
        }
    }
}

/// Nanoseconds an update of a thread, where some do the same with twins of their own.
fn on_threads(threads: usize, definition: &TwinType) -> f64 {
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(|| round(definition))).collect();
        let ns = all.into_iter().map(|one| one.join().expect("it does not panic"));
        ns.sum::<f64>() / threads as f64
    })
}

fn round(definition: &TwinType) -> f64 {
    let mut twins: Vec<Twin> = (0..TWINS).map(|_| Twin::new(0, definition)).collect();
    let mut scratch = Scratch::default();
    let batches: Vec<EventBatch> = (0..UPDATES).map(batch).collect();
    let begin = Instant::now();
    for batch in &batches {
        let event = batch.event(0);
        let update = Update { event, digital_at: DigitalTime(event.head.arrived_at.0), binds: true };
        for twin in &mut twins {
            steps::apply("p", twin, definition, &update, std::iter::empty(), &mut scratch, &mut Nobody);
            assert!(scratch.failed.is_empty(), "{:?}", scratch.failed);
        }
    }
    begin.elapsed().as_nanos() as f64 / (TWINS * UPDATES) as f64
}

/// One event, as step 1 makes it.
fn batch(number: usize) -> EventBatch {
    let mut batch = EventBatch::default();
    let mark = batch.begin();
    let at_us = 1_646_847_376_104_000 + number as i64 * 1_000_000;
    batch.push_property(mark, 0, Value::Double(20.0 + (number * 37 % 1_000) as f64 / 100.0));
    batch.push_property(mark, 1, Value::Double(4.0));
    let parts = HeadParts {
        position: number as u64,
        element: 0,
        physical_at: DeviceTime(at_us),
        claimed: ClaimedTime::Arrival,
        arrived_at: ArrivalTime(at_us),
        twin_type: 0,
        stream: 0,
        live: true,
    };
    batch.finish(mark, "p", parts);
    batch
}
