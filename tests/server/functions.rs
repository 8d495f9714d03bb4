//! Functions that are put while a job runs: checked first, applied with revisions going on, kept over a kill, shown
//! as drift, and rolled back by an apply.

use serde_json::{Value, json};

use super::Site;
use crate::harness::program::run;
use crate::harness::until;

impl Site {
    /// Publishes a value and waits until the twin has it; its state.
    fn state_with(&mut self, twin: &str, t: i64) -> Value {
        self.publish(twin, t);
        until("the value", || Some(self.twin(twin)).filter(|state| value(state, "t") == Some(t as f64)))
    }

    /// The function of the job with that name.
    fn function(&self, name: &str) -> Value {
        let all = self.get("/v1/jobs/line/functions").json();
        let mut functions = all["functions"].as_array().cloned().expect("a list").into_iter();
        functions.find(|one| one["function"] == name).unwrap_or_else(|| panic!("{name} in {all}"))
    }
}

fn value(state: &Value, property: &str) -> Option<f64> {
    state["properties"][property].as_f64()
}

#[test]
fn a_function_is_put_replaced_rolled_back_and_kept() {
    let mut site = Site::with_job();
    let before = site.state_with("a", 5);
    assert_eq!(value(&before, "f"), Some(10.0));
    let revision = |state: &Value| state["revision"].as_i64().expect("a number");

    // An expression takes the place of what the definition says, at once.
    let cel = site.ask("PUT", "/v1/jobs/line/functions/f", r#"{cel: "t * 3.0"}"#);
    assert_eq!(
        cel.json(),
        json!({"type": "device", "function": "f", "version": 2, "shadow": null, "how": "live"})
    );
    let after = site.state_with("a", 6);
    assert_eq!((value(&after, "f"), revision(&after)), (Some(18.0), revision(&before) + 1));
    assert_eq!(after["generation"], before["generation"]);

    // One in Python with a property of its own, which comes at a checkpoint; revisions go on.
    std::fs::write(site.path().join("quality.py"), "def f(state):\n    return {'quality': state['t'] / 2}\n")
        .expect("the folder is ours");
    let said = site.command(&["function", "put", "line", "quality", "quality.py", "--property", "double"]);
    assert!(said.contains("function device/quality is at version 2, applied at a checkpoint"), "{said}");
    let last = site.settled("a", 6);
    let state = site.state_with("a", 8);
    assert_eq!((value(&state, "quality"), value(&state, "f")), (Some(4.0), Some(24.0)));
    assert_eq!(revision(&state), last + 1);
    let why = site.get("/v1/jobs/line/twins/a/why").json();
    let functions = why["functions"].as_array().expect("a list");
    let of = |name: &str| functions.iter().find(|one| one["function"] == name).cloned().unwrap_or_default();
    assert_eq!(of("f")["properties"], json!({"f": 2}));
    assert_eq!(of("quality")["properties"], json!({"quality": 2}));

    // What is wrong is refused, and nothing changes.
    for (body, language, expected) in [
        ("def f(state):\n    return {'quality' 1}\n", "python", "line 2"),
        ("import nowhere\ndef f(state): pass\n", "python", "nowhere"),
        (r#"{cel: "tt * 3.0"}"#, "yaml", "there is no property `tt`"),
        ("{cel: [}", "yaml", ""),
        ("{fly: {}}", "yaml", "fly"),
    ] {
        let path = format!("/v1/jobs/line/functions/quality?language={language}");
        let refused = site.ask("PUT", &path, body);
        assert_eq!(refused.status, 422, "{body}: {refused:?}");
        assert!(refused.body.contains(expected), "{body}: {refused:?}");
    }
    assert_eq!(site.function("quality")["version"], 2);

    // A next version, at once: what runs is replaced, and the old one is what is gone back to.
    let put = site.ask(
        "PUT",
        "/v1/jobs/line/functions/quality?language=python",
        "def f(state):\n    return {'quality': state['t'] * 100}\n",
    );
    assert_eq!((put.status, &put.json()["how"], &put.json()["version"]), (200, &json!("live"), &json!(3)));
    assert_eq!(value(&site.state_with("a", 9), "quality"), Some(900.0));
    let back = site.ask("POST", "/v1/jobs/line/functions/quality/rollback", "").json();
    assert_eq!((&back["version"], &back["how"]), (&json!(2), &json!("live")));
    assert_eq!(value(&site.state_with("a", 10), "quality"), Some(5.0));

    // It is kept over a kill, and shown as drift.
    site.kill();
    site.start();
    until("the twin to be there", || (site.get("/v1/jobs/line/twins/a").status == 200).then_some(()));
    site.bind("b");
    assert_eq!(value(&site.state_with("a", 12), "quality"), Some(6.0));
    let quality = site.function("quality");
    assert_eq!((&quality["version"], &quality["is_drift"]), (&json!(2), &json!(true)));
    let plan = site.ask("POST", "/v1/plan", &site.job(&[])).json();
    let changes = plan["changes"].to_string();
    assert!(changes.contains("augmentation.f") && changes.contains("put while the job runs"), "{plan}");

    // An apply of the definition rolls it back; then there is nothing to change.
    assert_eq!(site.apply(&[]).status, 200);
    site.bind("c");
    let state = site.state_with("a", 20);
    assert_eq!((value(&state, "f"), value(&state, "quality")), (Some(40.0), None));
    assert_eq!(site.function("f")["version"], 3);
    let plan = site.ask("POST", "/v1/plan", &site.job(&[])).json();
    assert_eq!(plan["changes"], json!([]));

    // Taken away: the property keeps its value.
    assert_eq!(site.ask("DELETE", "/v1/jobs/line/functions/f", "").status, 204);
    assert_eq!(value(&site.state_with("a", 21), "f"), Some(40.0));
    assert_eq!(site.function("f")["version"], Value::Null);
    assert_eq!(site.ask("DELETE", "/v1/jobs/line/functions/nothing", "").status, 409);
    assert_eq!(site.ask("POST", "/v1/jobs/line/functions/f/rollback?type=none", "").status, 422);
    assert!(site.command(&["function", "list", "line"]).contains("removed"));
}

#[test]
fn a_version_is_tried_out_beside_another_and_promoted_or_dropped() {
    let mut site = Site::with_job();
    site.state_with("a", 5);
    let path = "/v1/jobs/line/functions/f";
    for (parameters, body, status) in [
        ("?shadow=0", "{cel: \"t * 2.0\"}", 400),
        ("?shadow=101", "{cel: \"t * 2.0\"}", 400),
        ("?shadow=10&property=double", "{cel: \"t * 2.0\"}", 400),
        ("?shadow=10", "{cel: \"tt * 2.0\"}", 422),
        ("?shadow=10&language=python", "def f(state):\n    return {'f' 1}\n", 422),
    ] {
        assert_eq!(site.ask("PUT", &format!("{path}{parameters}"), body).status, status, "{parameters}");
    }
    assert_eq!(site.ask("PUT", "/v1/jobs/line/functions/mode2?shadow=5", "{cel: \"t\"}").status, 409);
    assert_eq!(site.ask("POST", &format!("{path}/promote"), "").status, 409);
    assert_eq!(site.ask("DELETE", &format!("{path}/shadow"), "").status, 409);
    assert_eq!(site.function("f")["shadow"], Value::Null);

    // Beside the version of the definition runs one in Python that differs where `t` is above 6.
    let source = "def f(state):\n    t = state['t']\n    return {'f': t * 2 if t <= 6 else t * 2 + 0.25}\n";
    std::fs::write(site.path().join("f.py"), source).expect("the folder is ours");
    let said = site.command(&["function", "put", "line", "f", "f.py", "--shadow", "100%"]);
    assert!(said.contains("device/f is at version 1, applied on all workers at once"), "{said}");
    assert!(said.contains("version 2 runs beside it"), "{said}");
    let before = site.settled("a", 5);
    for t in 6..10 {
        assert_eq!(value(&site.state_with("a", t), "f"), Some(t as f64 * 2.0));
    }
    assert_eq!(site.settled("a", 9), before + 4);
    let shadow = until("four comparisons", || {
        Some(site.function("f")["shadow"].clone()).filter(|shadow| shadow["compared"] == 4)
    });
    assert_eq!(
        (&shadow["version"], &shadow["twins"], &shadow["failures"]),
        (&json!(2), &json!(1), &json!(0))
    );
    assert_eq!(shadow["different"], 3);
    assert_eq!(shadow["properties"], json!([{"name": "f", "different": 3, "largest": 0.25}]));
    let sample = &shadow["samples"][0];
    assert_eq!((&sample["twin"], &sample["now"]["values"]), (&json!("a"), &json!({"f": 14})));
    assert_eq!(sample["shadow"]["values"], json!({"f": 14.25}));
    let listed = site.command(&["function", "list", "line"]);
    assert!(listed.contains("3 of 4 updates differ"), "{listed}");
    assert!(listed.contains("f: 3 differ, by 0.25 at most"), "{listed}");

    // It is kept over a kill, and shown as drift.
    site.kill();
    site.start();
    site.bind("b");
    site.state_with("a", 20);
    until("a comparison", || (site.function("f")["shadow"]["compared"].as_u64() > Some(0)).then_some(()));
    let plan = site.ask("POST", "/v1/plan", &site.job(&[])).json();
    assert!(plan["changes"].to_string().contains("version 2 on 100 % of the twins"), "{plan}");

    // Promoted, it is the one that runs, and the other is what is gone back to.
    let promoted = site.command(&["function", "promote", "line", "f"]);
    assert!(promoted.contains("device/f is at version 2"), "{promoted}");
    assert_eq!(value(&site.state_with("a", 21), "f"), Some(42.25));
    assert_eq!((&site.function("f")["version"], &site.function("f")["shadow"]), (&json!(2), &Value::Null));
    assert_eq!(site.ask("POST", &format!("{path}/rollback"), "").json()["version"], 1);
    assert_eq!(value(&site.state_with("a", 22), "f"), Some(44.0));

    // One that fails is dropped, and none to go back to.
    let put = site.ask("PUT", &format!("{path}?shadow=100"), "{cel: \"100 / int(t - t)\"}");
    assert_eq!((put.status, &put.json()["shadow"]), (200, &json!(3)), "{put:?}");
    site.state_with("a", 23);
    let shadow = until("a comparison", || {
        Some(site.function("f")["shadow"].clone()).filter(|shadow| shadow["compared"] == 1)
    });
    assert_eq!((&shadow["failures"], &shadow["different"]), (&json!(1), &json!(1)));
    assert!(shadow["samples"][0]["shadow"]["failure"].is_string(), "{shadow}");
    assert!(site.command(&["function", "drop", "line", "f"]).contains("has ended"));
    assert_eq!(site.function("f")["shadow"], Value::Null);
    assert_eq!(site.function("f")["failures"], 0, "its failures are not those of the version that runs");
    assert_eq!(site.ask("POST", &format!("{path}/rollback"), "").status, 409);
    assert_eq!(site.apply(&[]).status, 200);
}

/// A module that doubles its number.
const DOUBLING: &[u8] =
    b"\0asm\x01\0\0\0\x01\x06\x01\x60\x01\x7c\x01\x7c\x03\x02\x01\0\x07\x08\x01\x04call\0\0\
    \x0a\x10\x01\x0e\0\x20\0\x44\0\0\0\0\0\0\0\x40\xa2\x0b";

#[test]
fn a_module_is_put_as_a_file_or_as_its_text() {
    let mut site = Site::with_job();
    let text = |factor: f64| {
        let call = "(func (export \"call\") (param f64) (result f64)";
        format!("(module {call} (f64.mul (local.get 0) (f64.const {factor}))))")
    };
    let first = format!("{{wasm: {{code: {:?}}}, of: [t], on_error: skip}}", text(7.0));
    let put = site.ask("PUT", "/v1/jobs/line/functions/f", &first).json();
    assert_eq!((&put["version"], &put["how"]), (&json!(2), &json!("live")));
    assert_eq!(value(&site.state_with("a", 1), "f"), Some(7.0));
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(site.path().join(name), bytes).expect("the folder is ours");
    };
    write("f.wasm", DOUBLING);
    write("f.wat", text(3.0).as_bytes());
    write("broken.wasm", b"\0asm\x01\0\0\0\x01");
    write("neither.wasm", b"\xff\xfe");
    let said = site.command(&["function", "put", "line", "f", "f.wasm"]);
    assert!(said.contains("function device/f is at version 3, applied on all workers at once"), "{said}");
    assert_eq!(value(&site.state_with("a", 2), "f"), Some(4.0));
    let put = site.ask("PUT", "/v1/jobs/line/functions/f?language=wasm", &text(5.0)).json();
    assert_eq!(put["version"], 4);
    assert_eq!(value(&site.state_with("a", 3), "f"), Some(15.0));
    site.command(&["function", "put", "line", "f", "f.wat"]);
    assert_eq!(value(&site.state_with("a", 4), "f"), Some(12.0));

    // What is no module, or takes another count of numbers, is refused, and nothing changes.
    let server = format!("127.0.0.1:{}", site.port);
    for (file, code) in [("broken.wasm", 78), ("neither.wasm", 1)] {
        let refused = run(site.path(), &["function", "put", "line", "f", file, "--server", &server]);
        assert_eq!(refused.code, Some(code), "{file}: {refused:?}");
    }
    let two = text(1.0).replace("(param f64)", "(param f64 f64)");
    assert_eq!(site.ask("PUT", "/v1/jobs/line/functions/f?language=wasm", &two).status, 422);
    let long = "(;".repeat(600 << 10);
    assert_eq!(site.ask("PUT", "/v1/jobs/line/functions/f?language=wasm", &long).status, 400);
    assert_eq!(site.function("f")["version"], 5);
    assert_eq!(value(&site.state_with("a", 5), "f"), Some(15.0));
}
