//! Functions that are put while a job runs: checked first, applied with revisions going on, kept over a kill, shown
//! as drift, and rolled back by an apply.

use serde_json::{Value, json};

use super::Site;
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
    assert_eq!(cel.json(), json!({"type": "device", "function": "f", "version": 2, "how": "live"}));
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
