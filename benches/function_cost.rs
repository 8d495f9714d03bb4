//! What a function in process costs an update: nanoseconds of steps 2 to 4 of a twin with the function and without
//! it, of a job file as a user writes it. On one thread, and on two that call the same module at once.
//! Run with `cargo bench --bench function_cost`.
//! It measures and judges nothing.

use jobs::job::Job;
use operators::twin::TwinType;

#[path = "common/update_cost.rs"]
mod update_cost;

use update_cost::update_ns;

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
        let all: Vec<_> =
            (0..threads).map(|_| scope.spawn(|| update_ns(definition, UPDATES, &[(1, 4.0)]))).collect();
        let ns = all.into_iter().map(|one| one.join().expect("it does not panic"));
        ns.sum::<f64>() / threads as f64
    })
}
