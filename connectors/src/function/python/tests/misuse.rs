//! Functions that print, loop, eat memory, end their process or write where they should not. Neighbours and
//! later calls must not be hurt.

use super::*;

/// Does what it is told, or doubles.
const WILD: &str = "
import ctypes, os, re, sys

kept = []

def f(state):
    wild = state.get('wild')
    if wild == 'loop':
        while True: pass
    if wild == 'loop in C':
        re.match('(a+)+b', 'a' * 100)
    if wild == 'exit':
        os._exit(3)
    if wild == 'crash':
        ctypes.string_at(0)
    if wild == 'memory':
        while True: kept.append(bytearray(10_000_000))
    if wild == 'answer':
        return {'x': [0] * 20_000_000}
    if wild == 'print':
        while True: print('x' * 100)
    if wild == 'print much':
        for index in range(100_000): print(index)
    if wild == 'print oddly':
        sys.stdout.buffer.write(b'\\xff' * 100_000)
        os.write(1, b'\\0' * 1000)
        os.write(2, b'\\0' * 1000)
        print('\\ud800')
    if wild == 'everywhere':
        for fd in range(3, 20):
            try: os.write(fd, b'\\xff' * 100)
            except OSError: pass
    if wild == 'close':
        os.closerange(0, 100)
    if wild == 'raise':
        raise ValueError('no')
    return {'double': state['value'] * 2}
";

fn wild(what: &str) -> Value {
    json!({"wild": what, "value": 1})
}

#[test]
fn what_a_process_dies_of_fails_one_call_and_no_other() {
    for (what, kind, words) in [
        ("exit", FailureKind::Trap, "exit code 3"),
        ("crash", FailureKind::Trap, "signal 11"),
        ("memory", FailureKind::Trap, "`memory`"),
        ("answer", FailureKind::Trap, "`memory`"),
        ("everywhere", FailureKind::Trap, "file descriptors"),
        ("close", FailureKind::Trap, "its process"),
    ] {
        let memory = ByteSize::mb(128);
        let mut caller = Caller::with(PythonSettings { memory, ..PythonSettings::default() }, WILD);
        // The first one starts the process, so that the others are more likely to be one batch.
        assert_eq!(caller.ask(json!({"value": 1})), Ok(json!({"double": 2})));
        let mut call = |body: Value| caller.call(&body, LONG).expect("there is room");
        let before: Vec<u64> = (0..20).map(|value| call(json!({"value": value}))).collect();
        let guilty = call(wild(what));
        let after: Vec<u64> = (0..20).map(|value| call(json!({"value": value}))).collect();
        let answers = caller.answers(41);
        for tickets in [before, after] {
            for (value, ticket) in tickets.iter().enumerate() {
                assert_eq!(answers[ticket], Ok(json!({"double": value * 2})), "beside {what}");
            }
        }
        let outcome = &answers[&guilty];
        let is_as_expected =
            outcome.as_ref().is_err_and(|(found, message)| *found == kind && message.contains(words));
        assert!(is_as_expected, "{what}: {outcome:?}");
    }
}

#[test]
fn a_call_that_does_not_end_is_ended() {
    for what in ["loop", "loop in C", "print"] {
        let mut caller = Caller::new(WILD);
        assert_eq!(caller.ask(json!({"value": 1})), Ok(json!({"double": 2})));
        let short = Duration::from_millis(300);
        let before = caller.call(&json!({"value": 2}), LONG).expect("there is room");
        let guilty = caller.call(&wild(what), short).expect("there is room");
        let after = caller.call(&json!({"value": 3}), LONG).expect("there is room");
        let answers = caller.answers(3);
        assert_eq!(answers[&before], Ok(json!({"double": 4})));
        assert_eq!(answers[&after], Ok(json!({"double": 6})));
        let kind = answers[&guilty].as_ref().map_err(|(kind, _)| *kind);
        assert_eq!(kind, Err(FailureKind::Timeout), "{what}");
    }
}

#[test]
fn output_does_not_damage_answers() {
    let mut caller = Caller::new(WILD);
    for what in ["print much", "print oddly"] {
        assert_eq!(caller.ask(wild(what)), Ok(json!({"double": 2})), "{what}");
    }
}

#[test]
fn a_call_for_which_it_is_too_late_is_not_made() {
    let mut caller =
        Caller::new("made = []\ndef f(state):\n    made.append(state['id'])\n    return {'made': made}\n");
    let (kind, _) = caller.ask_within(json!({"id": 1}), Duration::ZERO).expect_err("it is too late");
    assert_eq!(kind, FailureKind::Timeout);
    assert_eq!(caller.ask(json!({"id": 2})), Ok(json!({"made": [2]})));
}

#[test]
fn a_function_that_always_dies_does_not_spin() {
    let mut caller = Caller::new("import os\ndef f(state):\n    os._exit(1)\n");
    let kinds: Vec<FailureKind> = (0..100).map(|_| caller.ask(json!({})).expect_err("it dies").0).collect();
    let deaths = kinds.iter().filter(|kind| **kind == FailureKind::Trap).count();
    assert!((8..50).contains(&deaths), "{deaths}");
    assert_eq!(kinds.len() - deaths, kinds.iter().filter(|kind| **kind == FailureKind::Unavailable).count());
    assert!(caller.function.status().is_open);
    assert_eq!(caller.function.status().instances, 0);
}

/// Whatever calls there are, in whatever order, each has one answer, and it is the right one.
#[test]
fn each_call_is_answered_once() {
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut below = |most: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % most
    };
    for round in 0..6 {
        let settings = PythonSettings {
            processes: 1 + below(3) as u8,
            batch: 1 + below(40) as u32,
            memory: ByteSize::mb(128),
            ..PythonSettings::default()
        };
        let mut caller = Caller::with(settings.clone(), WILD);
        let mut expected = BTreeMap::new();
        // Fewer deaths than make it rest.
        let mut deaths = 0;
        for value in 0..300 {
            let (wild, kind) = match below(60) {
                0 if deaths < 5 => ("exit", Some(FailureKind::Trap)),
                1 if deaths < 5 => ("memory", Some(FailureKind::Trap)),
                2..8 => ("raise", Some(FailureKind::Error)),
                8 => ("print much", None),
                _ => ("nothing", None),
            };
            deaths += u32::from(kind == Some(FailureKind::Trap));
            let body = json!({"wild": wild, "value": value});
            let ticket = caller.call(&body, LONG).expect("there is room");
            expected.insert(ticket, kind.map_or(Ok(json!({"double": value * 2})), Err));
        }
        let answers = caller.answers(expected.len());
        let found: BTreeMap<u64, _> = answers
            .into_iter()
            .map(|(ticket, outcome)| (ticket, outcome.map_err(|(kind, _)| kind)))
            .collect();
        assert_eq!(found, expected, "round {round}, {settings:?}");
        assert_eq!(caller.function.status().in_flight, 0);
    }
}

/// The thread that started a process stands for the engine: it is gone without a word to the process.
#[test]
fn a_process_dies_with_the_engine() {
    let began = |source: &'static str| {
        let start = move || {
            let mut process = Process::start("left", source, &PythonSettings::default()).expect("it starts");
            let is_ready = process.is_ready(Duration::from_millis(500), "python3");
            assert!(matches!(is_ready, Ok(false)), "it loads for ever");
            let pid = process.pid();
            std::mem::forget(process);
            pid
        };
        std::thread::spawn(start).join().expect("it does not panic")
    };
    let pid = began("import re\nre.match('(a+)+b', 'a' * 100)\n");
    until("the process is gone", || is_gone(&json!(pid)));
}
