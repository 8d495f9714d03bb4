//! What is known of a source before it is called.

use super::*;

fn refusal(source: &str) -> (String, Option<u32>, Option<u32>) {
    match check(source, &PythonSettings::default()) {
        Err(PythonError::Source { message, line, column }) => (message, line, column),
        other => panic!("{source}: {other:?}"),
    }
}

#[test]
fn good_sources_are_taken() {
    for source in [
        DOUBLE,
        "def anything(state): return {}",
        "def _helper(): pass\ndef g(state, more=1, *rest, named=2): return {}",
        "f = lambda state: {}",
        "class F:\n    def __call__(self, state): return {}\nf = F()",
        "from math import sqrt, floor\nimport json\ndef g(state): return {}",
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: 'int' = 1\ndef f(state): return dataclasses.asdict(A())",
        "print('hello')\ndef f(*states): return {}\nif __name__ == '__main__': raise SystemExit(1)",
    ] {
        check(source, &PythonSettings::default()).unwrap_or_else(|error| panic!("{source}: {error}"));
    }
}

#[test]
fn wrong_sources_are_refused_with_what_to_do() {
    for (source, words, line) in [
        ("", "write `def f(state): return {...}`", None),
        ("import math", "write `def f(state): return {...}`", None),
        ("def a(s): pass\ndef b(s): pass", "several functions (a, b); call the one that is meant `f`", None),
        ("f = 3", "`f` is no function", None),
        ("async def f(state): return {}", "write a plain `def`", Some(1)),
        ("\ndef f(state):\n    yield 1", "write a plain `def`", Some(2)),
        ("def f(): return {}", "must take one argument; write `def f(state):`", Some(1)),
        ("def g(a, b): return {}", "write `def g(state):`", Some(1)),
        ("def g(a, *, b): return {}", "write `def g(state):`", Some(1)),
        (
            "import nowhere.at_all",
            "ModuleNotFoundError: No module named 'nowhere'; install it for `python3`",
            Some(1),
        ),
        ("from math import squid", "ImportError: cannot import name 'squid'", Some(1)),
        ("\n\nx = {}['key']", "KeyError: 'key'", Some(3)),
        ("raise SystemExit(2)", "SystemExit: 2", Some(1)),
        ("x = 'x' * 10_000_000_000", "write more", Some(1)),
    ] {
        let (message, found_line, column) = refusal(source);
        assert!(message.contains(words), "{source}: {message}");
        assert_eq!((found_line, column), (line, None), "{source}");
    }
}

#[test]
fn a_syntax_error_has_its_place() {
    let (message, line, column) = refusal("def f(state):\n    return {'a': 1 +}\n");
    assert_eq!((message.as_str(), line, column), ("SyntaxError: invalid syntax", Some(2), Some(21)));
    let (message, line, _) = refusal("def f(state):\n\treturn 1\n        return 2\n");
    assert!(message.starts_with("TabError") || message.starts_with("IndentationError"), "{message}");
    assert_eq!(line, Some(3));
    let error = check("def", &PythonSettings::default()).expect_err("it is no source");
    assert_eq!(error.to_string(), "line 1, column 4: SyntaxError: invalid syntax");
}

#[test]
fn a_module_that_does_not_come_to_its_end() {
    let check = |source| check_within(Duration::from_millis(300), source, &PythonSettings::default());
    for source in
        ["while True: pass", "while True: print('x' * 1000)", "import re\nre.match('(a+)+b', 'a' * 100)"]
    {
        assert!(matches!(check(source), Err(PythonError::Slow(_))), "{source}");
    }
}

#[test]
fn a_module_that_ends_the_process() {
    let source = "import os\nprint('no data here')\nos._exit(7)\n";
    let error = check(source, &PythonSettings::default()).expect_err("the process is gone");
    assert!(error.to_string().contains("exit code 7; it printed last: no data here"), "{error}");
}

#[test]
fn an_interpreter_that_is_none() {
    for interpreter in ["/nowhere/python3", "no-python-of-this-name", "/etc/passwd"] {
        let settings = PythonSettings { interpreter: interpreter.to_owned(), ..PythonSettings::default() };
        let error = check(DOUBLE, &settings).expect_err("it cannot be run").to_string();
        assert!(error.contains(interpreter) && error.contains("install Python 3.9"), "{error}");
    }
    let settings = PythonSettings { interpreter: "true".to_owned(), ..PythonSettings::default() };
    assert!(matches!(check(DOUBLE, &settings), Err(PythonError::Died(_))));
    // At run time calls are failed with the reason, and then none is tried for a while.
    let settings = PythonSettings { interpreter: "/nowhere/python3".to_owned(), ..PythonSettings::default() };
    let mut caller = Caller::with(settings, DOUBLE);
    let (kind, message) = caller.ask(json!({"value": 1})).expect_err("it cannot be run");
    assert!(kind == FailureKind::Unavailable && message.contains("/nowhere/python3"), "{message}");
}

#[test]
fn settings_that_cannot_work_are_told() {
    for (json, expected) in [
        (r#"{}"#, None),
        (r#"{"interpreter": "/opt/venv/bin/python", "processes": 64, "memory": "2GB", "idle": "5m"}"#, None),
        (r#"{"processes": 0}"#, Some("processes")),
        (r#"{"processes": 65}"#, Some("processes")),
        (r#"{"batch": 0}"#, Some("batch")),
        (r#"{"memory": "1MB"}"#, Some("memory")),
        (r#"{"output_max": "0B"}"#, Some("output_max")),
        (r#"{"interpreter": " "}"#, Some("interpreter")),
    ] {
        let settings: PythonSettings = serde_json::from_str(json).expect("they are settings");
        let found = settings.check().err();
        match expected {
            None => assert_eq!(found, None, "{json}"),
            Some(word) => assert!(found.is_some_and(|reason| reason.starts_with(word)), "{json}"),
        }
    }
    assert!(serde_json::from_str::<PythonSettings>(r#"{"proceses": 1}"#).is_err());
    let large = "#".repeat(SOURCE_BYTES_MAX + 1);
    assert!(matches!(start("f", &large, PythonSettings::default()), Err(PythonError::Source { .. })));
}
