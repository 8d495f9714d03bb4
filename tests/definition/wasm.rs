//! Modules in WebAssembly in a job file: those that cannot be functions, and settings that do not go with them.

use expect_test::{Expect, expect};

use super::check;
use crate::command::{GOOD, folder, write};
use crate::harness::program::run;

/// What the good job has in place of `f`.
const LINEAR: &str = "{linear: {of: t, factor: 1.8, offset: 32}}";

/// The text of a function whose module is this one, with settings and with what stands beside it.
fn module(code: &str, settings: &str, beside: &str) -> String {
    let code = serde_json::Value::from(code).to_string();
    format!("{{wasm: {{code: {code}{settings}}}{beside}}}")
}

/// A module of numbers that does this with one.
fn numbers(body: &str) -> String {
    format!("(module (func (export \"call\") (param f64) (result f64) {body}))")
}

fn check_module(code: &str, settings: &str, beside: &str, expected: Expect) {
    check(LINEAR, &module(code, settings, beside), expected);
}

#[test]
fn a_good_module_is_valid() {
    let good = numbers("(f64.mul (local.get 0) (f64.const 1.8))");
    check_module(
        &good,
        ", fuel: 5000, memory: 64KiB, time: 20ms",
        ", of: [t], on_error: skip",
        expect![[r#"
            job.yaml is valid: 1 type, 1 stream, 2 functions, 1 listener
            exit 0
        "#]],
    );
    // `(module (func (export "call") (param f64) (result f64) (local.get 0)))`, as bytes.
    let base64 = "AGFzbQEAAAABBgFgAXwBfAMCAQAHCAEEY2FsbAAACgYBBAAg\nAAs=";
    check_module(
        base64,
        "",
        ", of: [t]",
        expect![[r#"
        job.yaml is valid: 1 type, 1 stream, 2 functions, 1 listener
        exit 0
    "#]],
    );
}

#[test]
fn modules_that_cannot_be_functions() {
    let of = ", of: [t]";
    let both = |rest: &str| format!("(module (memory (export \"memory\") 1) {rest})");
    for (code, expected) in [
        ("(module (func (export \"run\")))".to_owned(), expect![[r#"
            job.yaml:20:24: it exports no function `call` (only: run)
              help: export `call` from f64s to f64, or `memory`, `alloc` (i32) -> i32 and `call` (i32, i32) -> i64
            exit 78
        "#]]),
        ("(module (func (export \"call\") (param i64) (result f64) (f64.const 0)))".to_owned(), expect![[r#"
            job.yaml:20:24: its `call` is (i64) -> (f64)
              help: export `call` from f64s to f64, or `memory`, `alloc` (i32) -> i32 and `call` (i32, i32) -> i64
            exit 78
        "#]]),
        (both("(func (export \"call\") (param i32 i32) (result i64) (i64.const 0))"), expect![[r#"
            job.yaml:20:24: it exports no function `alloc`
              help: export `call` from f64s to f64, or `memory`, `alloc` (i32) -> i32 and `call` (i32, i32) -> i64
            exit 78
        "#]]),
        (
            "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func (param i32 i32 i32 i32) (result i32))))"
                .to_owned(),
            expect![[r#"
                job.yaml:20:24: it imports function `wasi_snapshot_preview1.fd_write`
                  help: a function gets nothing but its inputs. Build for wasm32 without WASI and without a library (clang --target=wasm32 -nostdlib, or Rust's wasm32-unknown-unknown)
                exit 78
            "#]],
        ),
        (numbers("(local.get 1)"), expect![[r#"
            job.yaml:20:24: it is no WebAssembly: unknown local 1: local index out of bounds (at offset 0x23)
              help: mend the text, or name a file that a compiler for wasm32 has made
            exit 78
        "#]]),
        (numbers("(local.get 0"), expect![[r#"
            job.yaml:20:24: it is no WebAssembly: expected `)`
                 --> <anon>:1:70
                  |
                1 | (module (func (export "call") (param f64) (result f64) (local.get 0))
                  |                                                                      ^
              help: mend the text, or name a file that a compiler for wasm32 has made
            exit 78
        "#]]),
        ("def f(state): return {}".to_owned(), expect![[r#"
            job.yaml:20:24: it is no WebAssembly: expected `(`
                 --> <anon>:1:1
                  |
                1 | def f(state): return {}
                  | ^
              help: mend the text, or name a file that a compiler for wasm32 has made
            exit 78
        "#]]),
        ("no module".to_owned(), expect![[r#"
            job.yaml:20:24: it is no WebAssembly: it begins like neither a module (\0asm) nor the text of one (a parenthesis)
              help: mend the text, or name a file that a compiler for wasm32 has made
            exit 78
        "#]]),
        ("bm8gbW9kdWxl".to_owned(), expect![[r#"
            job.yaml:20:24: it is no WebAssembly: expected `(`
                 --> <anon>:1:1
                  |
                1 | no module
                  | ^
              help: mend the text, or name a file that a compiler for wasm32 has made
            exit 78
        "#]]),
        ("AGFzbQEAAAABBgFgAXwB".to_owned(), expect![[r#"
            job.yaml:20:24: it is no WebAssembly: unexpected end-of-file (at offset 0xa)
              help: mend the text, or name a file that a compiler for wasm32 has made
            exit 78
        "#]]),
        ("quality.wasm".to_owned(), expect![[r#"
            job.yaml:20:24: it is neither the text of a module, `(module ..)`, nor base64 of one: Invalid symbol 46, offset 7.
              help: write {file: quality.wasm}, or what `base64 quality.wasm` prints
            exit 78
        "#]]),
        (
            "(module (memory 4096) (func (export \"call\") (param f64) (result f64) (local.get 0)))".to_owned(),
            expect![[r#"
                job.yaml:20:24: it fails before its first call: it needs more than its memory of 16.0 MB
                  help: raise `memory`
                exit 78
            "#]],
        ),
        (
            "(module (func $s (loop $l (br $l))) (start $s) (func (export \"call\") (param f64) (result f64) (f64.const 0)))"
                .to_owned(),
            expect![[r#"
                job.yaml:20:24: it fails before its first call: it used up its fuel of 10000000
                  help: if it does not loop for ever, raise `fuel`
                exit 78
            "#]],
        ),
    ] {
        check_module(&code, "", of, expected);
    }
}

#[test]
fn settings_that_do_not_go_with_a_module() {
    let one = numbers("(local.get 0)");
    for (settings, beside, expected) in [
        (
            ", fuel: 0",
            ", of: [t]",
            expect![[r#"
                job.yaml:20:106: fuel: 0 is not possible
                  help: write 1000 to 1000000000000
                exit 78
            "#]],
        ),
        (
            ", memory: 1KB",
            ", of: [t]",
            expect![[r#"
                job.yaml:20:108: memory: 1.0 kB is not possible
                  help: write 64KiB to 4GiB
                exit 78
            "#]],
        ),
        (
            ", fule: 1",
            ", of: [t]",
            expect![[r#"
            job.yaml:20:100: unknown key `fule`
              help: did you mean `fuel`?
            exit 78
        "#]],
        ),
        (
            "",
            "",
            expect![[r#"
            job.yaml:20:7: inputs of the function: 1, properties in `of`: 0
              help: name its inputs in their order: of: [temperature, pressure]
            exit 78
        "#]],
        ),
        (
            "",
            ", of: [t, t]",
            expect![[r#"
            job.yaml:20:101: inputs of the function: 1, properties in `of`: 2
              help: name its inputs in their order: of: [temperature, pressure]
            exit 78
        "#]],
        ),
        (
            "",
            ", of: [mode]",
            expect![[r#"
            job.yaml:20:106: the property `mode` is no number
              help: name a property of type double, integer or boolean
            exit 78
        "#]],
        ),
        (
            "",
            ", of: [t], timeout: 1s",
            expect![[r#"
            job.yaml:20:7: wasm answers at once: nothing waits for it, and nothing is late
              help: beside `wasm` write of, yields, on_error and keeps, or spread: true to have it called; its limits stand under it
            exit 78
        "#]],
        ),
        (
            "",
            ", of: [t], yields: [f, hot]",
            expect![[r#"
            job.yaml:20:110: it gives one number, and `yields` names 2
              help: name one, or have the function take a JSON object and give another one
            exit 78
        "#]],
        ),
    ] {
        check_module(&one, settings, beside, expected);
    }
    check(
        LINEAR,
        "{wasm: {fuel: 5000}, of: [t]}",
        expect![[r#"
        job.yaml:20:11: a function in wasm has a source
          help: write {file: quality.wasm}, or under `code` its text, or base64 of it
        exit 78
    "#]],
    );
}

#[test]
fn files_of_modules() {
    let validate = |file: &[u8]| {
        let folder = folder();
        write(folder.path(), "job.yaml", &GOOD.replace(LINEAR, "{wasm: {file: f.wasm}, of: [t]}"));
        std::fs::write(folder.path().join("f.wasm"), file).expect("the folder is ours");
        let ended = run(folder.path(), &["validate", "job.yaml"]);
        format!("{}{}exit {:?}\n", ended.stderr, ended.stdout, ended.code)
    };
    expect![[r#"
        job.yaml is valid: 1 type, 1 stream, 2 functions, 1 listener
        exit Some(0)
    "#]]
    .assert_eq(&validate(numbers("(local.get 0)").as_bytes()));
    expect![[r#"
        job.yaml:20:24: it is no WebAssembly: unexpected end-of-file (at offset 0x4)
          help: mend the text, or name a file that a compiler for wasm32 has made
        exit Some(78)
    "#]]
    .assert_eq(&validate(b"\0asm\x01\0\0"));
    expect![[r#"
        job.yaml:20:24: cannot read `f.wasm`: it is neither a text nor a module in WebAssembly
          help: name a file from the folder of the job file on
        exit Some(78)
    "#]]
    .assert_eq(&validate(b"\x7fELF\xff"));
    check(
        LINEAR,
        "{wasm: {file: nowhere.wasm}, of: [t]}",
        expect![[r#"
        job.yaml:20:24: cannot read `nowhere.wasm`: No such file or directory (os error 2)
          help: name a file from the folder of the job file on
        exit 78
    "#]],
    );
}
