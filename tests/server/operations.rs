//! What those who run a server look at: metrics of twins, and what was done by hand.

use serde_json::json;

use super::Site;
use crate::harness::endpoint::Endpoint;
use crate::harness::until;

/// Twins are measured one by one where somebody asks, under their ids as they are.
#[test]
fn twins_of_a_job_are_measured_where_that_is_asked_for() {
    let mut site = Site::with_job();
    let strange = r#"x "y" \z"#;
    for twin in ["b", strange] {
        site.publish(twin, 3);
    }
    site.settled("b", 3);
    until("all twins", || (site.get("/v1/jobs/line").json()["twins"] == 3).then_some(()));
    let plain = site.get("/metrics").body;
    assert!(plain.contains("twinloom_twins{job=\"line\"} 3") && !plain.contains("twinloom_twin_"), "{plain}");
    let answer = site.get("/metrics?twins=line");
    assert!(
        answer.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text"))
    );
    let labels = r#"{job="line",type="device",twin="b"}"#;
    for line in [
        format!("twinloom_twin_odte{labels} 1.0"),
        format!("twinloom_twin_timeliness{labels} 1.0"),
        format!("twinloom_twin_reliability{labels} 1.0"),
        format!("twinloom_twin_availability{labels} 1.0"),
        format!("twinloom_twin_revision{labels} 1"),
        format!("twinloom_twin_phase{labels} 2"),
        r#"twinloom_twin_revision{job="line",type="device",twin="x \"y\" \\z"} 1"#.to_owned(),
        r#"twinloom_twins_left_out{job="line"} 0"#.to_owned(),
    ] {
        assert!(answer.body.lines().any(|one| one == line), "{line} in\n{}", answer.body);
    }
    for (query, status, kind) in [("twins=none", 404, "unknown-job"), ("twin=line", 400, "bad-request")] {
        let problem = site.get(&format!("/metrics?{query}"));
        assert_eq!(problem.status, status, "{problem:?}");
        assert_eq!(problem.json()["type"], format!("urn:twinloom:problem:{kind}"));
        assert_eq!(problem.header("content-type"), Some("application/problem+json"));
    }
}

/// Functions of all jobs of a tenant use no more time together than it may have; what is beyond that waits.
#[test]
fn functions_of_a_tenant_share_their_time() {
    let endpoint = Endpoint::start(|body| (200, json!({"f": body["properties"]["t"]}).to_string()));
    let mut site = Site::new();
    std::fs::write(site.path().join("tenants.yaml"), "acme: {functions_time: 1s}\n").expect("it is ours");
    site.kill();
    site.start_with(&["--tenants", "tenants.yaml"]);
    let function = format!("{{http: {{url: \"{}\"}}, of: [t], timeout: 1h}}", endpoint.url);
    let head = "job: line\ntenant: acme\nlimits: {functions_time: 5s}";
    let changes = [("job: line", head), ("{linear: {of: t, factor: 2, offset: 0}}", &function)];
    assert_eq!(site.apply(&changes).status, 201);
    site.bind("a");
    let state = |site: &Site| site.get("/v1/jobs/line/functions").json()["functions"][0].clone();
    until("the first calls to be answered", || (state(&site)["open"] == 0).then_some(()));
    let before = state(&site)["held"].as_u64().expect("a count");
    endpoint.hold();
    site.publish("x", 1);
    endpoint.until_called("x", 1);
    for twin in ["y-1", "y-2"] {
        site.publish(twin, 2);
    }
    until("a call to be held", || (state(&site)["held"].as_u64() > Some(before)).then_some(()));
    assert_eq!(endpoint.keys_of("y").len(), 0);
    endpoint.release();
    for twin in ["x", "y-1", "y-2"] {
        let f = || site.twin(twin)["properties"]["f"].as_f64();
        until(twin, || (f() == Some(if twin == "x" { 1.0 } else { 2.0 })).then_some(()));
    }
    assert!(state(&site)["seconds"].as_f64() > Some(0.0));
    let metrics = site.get("/metrics").body;
    let named = |name: &str| format!("{name}{{job=\"line\",function=\"device/f\"}} ");
    for name in ["twinloom_function_time_seconds_total", "twinloom_function_holds_total"] {
        let line = metrics.lines().find_map(|line| line.strip_prefix(&named(name)));
        assert!(
            line.is_some_and(|number| number.parse::<f64>().is_ok_and(|it| it > 0.0)),
            "{name}: {line:?}"
        );
    }
    assert!(site.command(&["function", "list", "line"]).contains("for functions' time"));
}

#[test]
fn a_job_that_was_paused_by_hand_is_told_by_plan_and_left_so_by_apply() {
    let site = Site::with_job();
    let notes = |site: &Site, job: &str| site.ask("POST", "/v1/plan", job).json()["notes"].clone();
    let job = site.job(&[]);
    assert_eq!(notes(&site, &job), json!([]));
    site.ask("POST", "/v1/jobs/line/pause", "");
    let told = notes(&site, &job);
    assert!(
        told[0].as_str().is_some_and(|note| note.starts_with("paused by hand: apply leaves it so")),
        "{told}"
    );
    let changed = [("interval: 100ms", "interval: 90ms")];
    assert_eq!(notes(&site, &site.job(&changed)), told);
    assert_eq!(site.apply(&changed).json()["notes"], told);
    assert_eq!(site.get("/v1/jobs/line").json()["status"], "paused");
    site.ask("POST", "/v1/jobs/line/resume", "");
    assert_eq!(notes(&site, &site.job(&changed)), json!([]));
}
