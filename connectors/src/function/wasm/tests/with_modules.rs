//! What needs an interpreter.

use serde_json::{Value, json};

use super::super::*;
use crate::function::{Failure, FailureKind};

fn compile_with(settings: WasmSettings, source: impl AsRef<[u8]>) -> Result<Module, WasmError> {
    Module::compile(source.as_ref(), &settings)
}

fn compile(source: impl AsRef<[u8]>) -> Module {
    compile_with(WasmSettings::default(), source).unwrap_or_else(|error| panic!("{error}"))
}

fn kind<T: std::fmt::Debug>(result: Result<T, Failure>, words: &str) -> FailureKind {
    let failure = result.expect_err(words);
    assert!(failure.message.contains(words), "{words}: {failure}");
    failure.kind
}

fn ask(instance: &mut Instance, body: &Value) -> Result<Value, Failure> {
    let mut answer = b"what was there before".to_vec();
    instance.call_bytes(body.to_string().as_bytes(), &mut answer)?;
    Ok(serde_json::from_slice(&answer).expect("an answer is JSON"))
}

/// A module on bytes; `$call` may use the local `$i`.
fn on_bytes(alloc: &str, call: &str) -> String {
    format!(
        r#"(module
             (memory (export "memory") 1)
             (func (export "alloc") (param $length i32) (result i32) {alloc})
             (func (export "call") (param $at i32) (param $length i32) (result i64) (local $i i32) {call})
             (data (i32.const 64) "{{\"a\": 1}}[1]{{\"a\": 1")
             (data (i32.const 96) "\ff\ff"))"#
    )
}

/// The answer that a call of a module on bytes gives.
fn packed(pointer: u32, length: u32) -> String {
    format!("(i64.or (i64.shl (i64.const {pointer}) (i64.const 32)) (i64.const {length}))")
}

const AT_4096: &str = "(i32.const 4096)";

const FAHRENHEIT: &str = r#"(module
  (func (export "call") (param $celsius f64) (param $offset f64) (result f64)
    (f64.add (f64.add (f64.mul (local.get $celsius) (f64.const 1.8)) (f64.const 32)) (local.get $offset))))"#;

/// Tells how often it was called, and traps where it is given a text.
const COUNTING: &str = r#"(module
  (memory (export "memory") 1)
  (global $calls (mut i32) (i32.const 0))
  (func (export "alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "call") (param $at i32) (param $length i32) (result i64)
    (global.set $calls (i32.rem_u (i32.add (global.get $calls) (i32.const 1)) (i32.const 10)))
    (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 34)) (then unreachable))
    (i32.store8 (i32.const 70) (i32.add (i32.const 48) (global.get $calls)))
    (i64.const 0x4000000008))
  (data (i32.const 64) "{\"n\": 0}"))"#;

#[test]
fn numbers_come_in_their_order_and_one_goes_out() {
    let module = compile(FAHRENHEIT);
    assert_eq!(module.abi(), Abi::Numbers { inputs: 2 });
    let mut instance = module.instance();
    assert_eq!(instance.call_numbers(&[100.0, 0.5]), Ok(Some(212.5)));
    assert_eq!(instance.call_numbers(&[0.0, -1.0]), Ok(Some(31.0)));
    assert_eq!(instance.call_numbers(&[f64::NAN, 0.0]), Ok(None));
    assert_eq!(instance.call_numbers(&[f64::INFINITY, 0.0]), Ok(Some(f64::INFINITY)));
    assert_eq!(kind(instance.call_numbers(&[1.0]), "takes 2 numbers and was given 1"), FailureKind::Error);
    assert_eq!(kind(instance.call_bytes(b"{}", &mut Vec::new()), "takes numbers"), FailureKind::Error);
}

#[test]
fn bytes_come_and_go_as_json() {
    let module = compile(on_bytes(AT_4096, &packed(64, 8)));
    assert_eq!(module.abi(), Abi::Bytes);
    assert_eq!(ask(&mut module.instance(), &json!({})), Ok(json!({"a": 1})));
    let echo = "(i64.or (i64.shl (i64.extend_i32_u (local.get $at)) (i64.const 32)) (i64.extend_i32_u (local.get $length)))";
    let module = compile(on_bytes(AT_4096, echo));
    let body = json!({"temperature": 21.5, "state": "ü", "samples": vec![1.5; 1_000]});
    assert_eq!(ask(&mut module.instance(), &body), Ok(body));
    let module = compile(on_bytes(AT_4096, "(i64.const 0)"));
    assert_eq!(ask(&mut module.instance(), &json!({})), Ok(json!({})));
    let wrong = module.instance().call_numbers(&[]);
    assert_eq!(kind(wrong, "takes bytes"), FailureKind::Error);
}

#[test]
fn a_module_from_c() {
    let mut instance = compile(include_bytes!("samples.wasm")).instance();
    let mut check = |body: Value, expected: Value| assert_eq!(ask(&mut instance, &body), Ok(expected));
    check(
        json!({"samples": [1.5, -2, 3e1]}),
        json!({"count": 3, "least": -2.0, "most": 30.0, "rms": 17.380545}),
    );
    check(json!({"samples": []}), json!({}));
    // More than the memory that it has at first, and back to a short one.
    let many: Vec<f64> = (0..10_000).map(|index| f64::from(index % 100) / 4.0).collect();
    check(json!({"samples": many}), json!({"count": 10_000, "least": 0.0, "most": 24.75, "rms": 14.325458}));
    check(json!({"samples": [0.25]}), json!({"count": 1, "least": 0.25, "most": 0.25, "rms": 0.25}));
}

#[test]
fn what_is_no_function_is_refused_with_what_to_do() {
    let func = |name: &str, ty: &str, body: &str| format!("(func (export \"{name}\") {ty} {body})");
    let alloc = func("alloc", "(param i32) (result i32)", "(i32.const 8)");
    let call = func("call", "(param i32 i32) (result i64)", "(i64.const 0)");
    let memory = "(memory (export \"memory\") 1)";
    for (source, words) in [
        ("(module)".to_owned(), "it exports no function `call`"),
        (format!("(module {memory} {alloc})"), "it exports no function `call` (only: alloc, memory)"),
        ("(module (memory (export \"call\") 1))".to_owned(), "it exports no function `call`"),
        (format!("(module {alloc} {call})"), "it exports no memory"),
        (format!("(module {memory} {call})"), "it exports no function `alloc`"),
        (
            format!(
                "(module {memory} {call} {})",
                func("alloc", "(param i64) (result i32)", "(i32.const 8)")
            ),
            "its `alloc` is (i64) -> (i32)",
        ),
        (format!("(module {})", func("call", "", "")), "its `call` is () -> ()"),
        (format!("(module {})", func("call", "(result f64)", "(f64.const 1)")), "its `call` is () -> (f64)"),
        (
            format!("(module {})", func("call", "(param f64 f32) (result f64)", "(local.get 0)")),
            "its `call` is (f64, f32) -> (f64)",
        ),
        (
            "(module (import \"env\" \"print\" (func (param i32))))".to_owned(),
            "it imports function `env.print`; a function gets nothing but its inputs",
        ),
        ("(module (import \"env\" \"memory\" (memory 1)))".to_owned(), "it imports memory `env.memory`"),
        ("(module (import \"a\" \"b\" (global i32)))".to_owned(), "it imports global `a.b`"),
        ("(module (func (result i32)))".to_owned(), "it is no WebAssembly"),
        ("(module (funk))".to_owned(), ":1:10"),
        (String::new(), "it is no WebAssembly"),
        ("\0asm\u{1}\0\0".to_owned(), "it is no WebAssembly"),
        (
            format!("(module (memory 1) (memory (export \"memory\") 1) {alloc} {call})"),
            "it is no WebAssembly",
        ),
        (
            format!("(module (memory (export \"memory\") 300) {alloc} {call})"),
            "it fails before its first call: it needs more than its memory of 16.0 MB",
        ),
        (format!("(module {memory} {alloc} {call} (start $s) (func $s unreachable))"), "`unreachable`"),
        (
            format!("(module {memory} {alloc} {call} (start $s) (func $s (loop $l (br $l))))"),
            "it used up its fuel of 10000000",
        ),
        (
            format!("(module {memory} {alloc} {call} (func (export \"_initialize\") unreachable))"),
            "it fails before its first call",
        ),
    ] {
        let error = compile_with(WasmSettings::default(), &source).expect_err(&source).to_string();
        assert!(error.contains(words), "{source}: {error}");
    }
    let large = vec![b' '; (4 << 20) + 1];
    assert!(matches!(compile_with(WasmSettings::default(), large), Err(WasmError::TooLarge { .. })));
    assert!(matches!(compile_with(WasmSettings::default(), [0xff; 9]), Err(WasmError::Invalid(_))));
    let settings = WasmSettings { fuel: 0, ..WasmSettings::default() };
    assert!(matches!(compile_with(settings, FAHRENHEIT), Err(WasmError::Settings(_))));
}

#[test]
fn a_reactor_is_initialized_once_an_instance() {
    let module = compile(
        r#"(module
             (global $offset (mut f64) (f64.const 0))
             (func (export "_initialize") (global.set $offset (f64.add (global.get $offset) (f64.const 5))))
             (func (export "call") (param f64) (result f64) (f64.add (local.get 0) (global.get $offset))))"#,
    );
    let mut instance = module.instance();
    for _ in 0..2 {
        assert_eq!(instance.call_numbers(&[1.0]), Ok(Some(6.0)));
    }
}

#[test]
fn a_call_that_does_not_end_is_ended() {
    let loops = "(func (export \"call\") (param f64) (result f64) (loop $l (br $l)) (f64.const 1))";
    let mut instance = compile(format!("(module {loops})")).instance();
    for _ in 0..3 {
        assert_eq!(kind(instance.call_numbers(&[1.0]), "used up its fuel of 10000000"), FailureKind::Timeout);
    }
    // With fuel for years it is the clock that ends it.
    let settings =
        WasmSettings { fuel: 1_000_000_000_000, time: Duration::from_millis(30), ..WasmSettings::default() };
    let mut instance = compile_with(settings, format!("(module {loops})")).expect("it is good").instance();
    assert_eq!(kind(instance.call_numbers(&[1.0]), "longer than 30ms"), FailureKind::Timeout);
    let in_alloc = on_bytes("(loop $l (br $l)) (i32.const 8)", "(i64.const 0)");
    assert_eq!(kind(ask(&mut compile(in_alloc).instance(), &json!({})), "fuel"), FailureKind::Timeout);
}

/// Fuel is given in slices, and all of it: the same call ends with it or does not, whatever the slices are.
#[test]
fn fuel_is_counted_over_slices() {
    let counts = r#"(module (func (export "call") (param $times f64) (result f64) (local $i f64)
        (loop $l
          (local.set $i (f64.add (local.get $i) (f64.const 1)))
          (br_if $l (f64.lt (local.get $i) (local.get $times))))
        (local.get $i)))"#;
    let works = |fuel: u64, times: f64| {
        let settings = WasmSettings { fuel, time: Duration::from_secs(600), ..WasmSettings::default() };
        let mut instance = compile_with(settings, counts).expect("it is good").instance();
        match instance.call_numbers(&[times]) {
            Ok(result) => {
                assert_eq!(result, Some(times));
                true
            }
            Err(failure) => {
                assert_eq!(failure.kind, FailureKind::Timeout);
                false
            }
        }
    };
    // The least fuel with which a thousand rounds work; then a thousand times as many need a thousand times that.
    let least = (1_000..10_000).step_by(100).find(|fuel| works(*fuel, 1_000.0)).expect("some fuel is enough");
    assert!(works(least * 1_000, 1_000_000.0), "{least}");
    assert!(!works(least * 900, 1_000_000.0), "{least}");
}

#[test]
fn memory_has_a_limit() {
    let grow = "(loop $l (drop (memory.grow (i32.const 16))) (br $l)) (i64.const 0)";
    let mut instance = compile(on_bytes(AT_4096, grow)).instance();
    for _ in 0..2 {
        assert_eq!(kind(ask(&mut instance, &json!({})), "its memory of 16.0 MB"), FailureKind::Trap);
    }
    let deep = r#"(module (func $call (export "call") (param f64) (result f64) (f64.add (call $call (local.get 0)) (f64.const 1))))"#;
    assert_eq!(kind(compile(deep).instance().call_numbers(&[1.0]), "stack"), FailureKind::Trap);
}

#[test]
fn after_a_trap_it_goes_on_anew() {
    let module = compile(COUNTING);
    let mut instance = module.instance();
    let mut check = |body: &str, expected: Result<&[u8], FailureKind>| {
        let mut answer = Vec::new();
        let result = instance.call_bytes(body.as_bytes(), &mut answer).map_err(|failure| failure.kind);
        assert_eq!(result.map(|()| answer.as_slice()), expected, "{body}");
    };
    check("{}", Ok(b"{\"n\": 1}"));
    check("{}", Ok(b"{\"n\": 2}"));
    check("\"", Err(FailureKind::Trap));
    check("{}", Ok(b"{\"n\": 1}"));
}

#[test]
fn instances_are_used_again() {
    let module = compile(COUNTING);
    let count = |instance: &mut Instance| ask(instance, &json!({})).expect("it works")["n"].clone();
    let mut first = module.instance();
    assert_eq!((count(&mut first), count(&mut first)), (json!(1), json!(2)));
    // Another one beside it is another one.
    let mut second = module.instance();
    assert_eq!(count(&mut second), json!(1));
    drop(first);
    assert_eq!(count(&mut module.clone().instance()), json!(3));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let mut instance = module.instance();
            std::thread::spawn(move || (0..1_000).map(|_| count(&mut instance)).collect::<Vec<Value>>())
        })
        .collect();
    for thread in threads {
        let counts = thread.join().expect("it does not panic");
        let follows = |pair: &[Value]| pair[1].as_i64() == pair[0].as_i64().map(|count| (count + 1) % 10);
        assert!(counts.windows(2).all(follows), "another thread counts in the same instance");
    }
}

#[test]
fn wrong_answers_are_told_and_the_instance_goes_on() {
    for (call, words, expected) in [
        (packed(64, 11), "trailing characters", FailureKind::Error),
        (packed(72, 3), "is JSON but no object", FailureKind::Error),
        (packed(75, 7), "is no JSON", FailureKind::Error),
        (packed(96, 2), "is no JSON", FailureKind::Error),
        (packed(64, 0), "is no JSON", FailureKind::Error),
        (packed(65_530, 8), "is not in its memory", FailureKind::Error),
        (packed(4_294_967_295, 1), "is not in its memory", FailureKind::Error),
        (packed(0, 4_294_967_295), "has 4294967295 bytes", FailureKind::TooLarge),
        (packed(0, 60_000), "has 60000 bytes; return less, or raise `output_max`", FailureKind::TooLarge),
        ("unreachable".to_owned(), "`unreachable`", FailureKind::Trap),
        ("(i64.load (i32.const 65530))".to_owned(), "out of bounds memory access", FailureKind::Trap),
        (
            "(drop (i32.div_s (local.get $length) (local.get $i))) (i64.const 0)".to_owned(),
            "divide by zero",
            FailureKind::Trap,
        ),
    ] {
        let settings = WasmSettings { output_max: ByteSize::b(50_000), ..WasmSettings::default() };
        let module = compile_with(settings, on_bytes(AT_4096, &call)).expect("it is good");
        let mut instance = module.instance();
        for _ in 0..2 {
            assert_eq!(kind(ask(&mut instance, &json!({})), words), expected, "{call}");
        }
    }
    for alloc in ["(i32.const 0)", "(i32.const 65535)", "(i32.const -1)"] {
        let mut instance = compile(on_bytes(alloc, "(i64.const 0)")).instance();
        assert_eq!(kind(ask(&mut instance, &json!({})), "which is no place for them"), FailureKind::Trap);
    }
}
