//! What those who run a server look at: metrics of twins, and what was done by hand.

use serde_json::json;

use super::Site;
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
