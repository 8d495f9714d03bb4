//! What a call of a function in WebAssembly costs, by both interfaces; what code of its own costs beside the same
//! code native; how long a module takes to be ready, and an instance.
//! Run with `cargo run --release -p twinloom-connectors --features wasm --example wasm_cost`.
//! It measures and judges nothing.

use connectors::function::wasm::{Module, WasmSettings};
use std::hint::black_box;
use std::time::Instant;

const CALLS: u32 = 1_000_000;
const ROUNDS: usize = 3;
const SAMPLES: &[u8] = include_bytes!("../src/function/wasm/tests/samples.wasm");
const BODY: &[u8] = br#"{"temperature": 21.5, "samples": [1.5, -2.25, 30], "state": "on", "update": 12345}"#;

const NUMBERS: &str = r#"(module
  (func (export "call") (param f64 f64 f64) (result f64)
    (f64.add (f64.mul (local.get 0) (local.get 1)) (local.get 2))))"#;

/// Looks at nothing and answers with a text.
const BYTES: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "alloc") (param i32) (result i32) (i32.const 4096))
  (func (export "call") (param i32 i32) (result i64) (i64.const 0x4000000017))
  (data (i32.const 64) "{\"temperature_f\": 70.7}"))"#;

const ROUND: &str = r#"(module
  (func (export "call") (param $times f64) (result f64) (local $x f64)
    (loop $l
      (local.set $x (f64.add (f64.mul (local.get $x) (f64.const 0.999999)) (local.get $times)))
      (local.set $times (f64.sub (local.get $times) (f64.const 1)))
      (br_if $l (f64.gt (local.get $times) (f64.const 0))))
    (local.get $x)))"#;

const TRAPS: &str = r#"(module (memory 1) (func (export "call") (param f64) (result f64) unreachable))"#;

const ENDLESS: &str = r#"(module
  (func (export "call") (param f64) (result f64) (loop $l (br $l)) (f64.const 1)))"#;

fn main() {
    let settings = WasmSettings::default();
    let compile = |source: &[u8]| Module::compile(source, &settings).expect("it is good");
    for _ in 0..ROUNDS {
        let mut numbers = compile(NUMBERS.as_bytes()).instance();
        measure("call of 3 numbers", CALLS, || {
            black_box(numbers.call_numbers(&[2.0, 3.0, 4.0])).expect("it works");
        });
        let (mut bytes, mut answer) = (compile(BYTES.as_bytes()).instance(), Vec::new());
        measure("call of 82 bytes, answered with 23", CALLS, || {
            bytes.call_bytes(BODY, &mut answer).expect("it works");
        });
        let mut samples = compile(SAMPLES).instance();
        measure("the same, read and answered by code from C", CALLS / 10, || {
            samples.call_bytes(BODY, &mut answer).expect("it works");
        });
        let mut rounds = compile(ROUND.as_bytes()).instance();
        measure("1,000 rounds of a loop", CALLS / 100, || {
            black_box(rounds.call_numbers(&[1_000.0])).expect("it works");
        });
        measure("1,000 rounds of that loop, native", CALLS / 100, || {
            black_box(native(black_box(1_000.0)));
        });
        measure("a module of 2.4 kB from C is ready", 1_000, || {
            black_box(compile(SAMPLES));
        });
        let mut traps = compile(TRAPS.as_bytes()).instance();
        measure("an instance is made, and a call of it traps", CALLS / 100, || {
            traps.call_numbers(&[1.0]).expect_err("it traps");
        });
        let mut endless = compile(ENDLESS.as_bytes()).instance();
        measure("an endless loop is ended", 20, || {
            endless.call_numbers(&[1.0]).expect_err("it has no end");
        });
    }
}

fn measure(what: &str, calls: u32, mut call: impl FnMut()) {
    let began = Instant::now();
    (0..calls).for_each(|_| call());
    println!("{what}: {:.3} us", began.elapsed().as_secs_f64() * 1e6 / f64::from(calls));
}

fn native(mut times: f64) -> f64 {
    let mut x = 0.0;
    while times > 0.0 {
        x = x * 0.999_999 + times;
        times -= 1.0;
    }
    x
}
