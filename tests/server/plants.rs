//! Real devices on a running server: a roster, presence by a last will, and twins that are retired.

use serde_json::json;

use super::Site;
use crate::harness::until;

const MODEL: &str = "properties: {t: {type: double, unit: Cel}, mode: {type: string}, f: {type: double}}";

/// The job with a roster, and presence.
fn with_roster(rows: &str) -> Site {
    let site = Site::new();
    let path = site.path().join("devices.csv");
    std::fs::write(&path, format!("id,class,line_id\n{rows}")).expect("the folder is ours");
    let roster = format!("roster: {{file: {}, twin: id}}\ntypes:", path.display());
    let model = format!(
        "attributes: {{class: string}}\n    relationships: {{partOf: {{to: line, from: {{roster: line_id}}}}}}\n    \
         presence: {{from: plant, topic: \"device/{{twin}}/status\", up: online, down: offline}}\n    {MODEL}"
    );
    assert_eq!(site.apply(&[("types:", &roster), (MODEL, &model)]).status, 201);
    site
}

/// Publishes until the twin has it: one of a roster is there before.
fn heard(site: &mut Site, twin: &str) {
    until("the job to take messages", || {
        site.publish(twin, 0);
        (site.twin(twin)["properties"]["t"] == json!(0.0)).then_some(())
    });
}

/// Twins of the roster are there before they speak, with what it says of them; what it says later is heard.
#[test]
fn a_roster_has_twins_before_they_speak_and_is_read_again() {
    let mut site = with_roster("d-1,servo,line-1\nd-2,,\n");
    let twin = site.twin("d-1");
    assert_eq!((&twin["lifecycle"], &twin["attributes"]), (&json!("unbound"), &json!({"class": "servo"})));
    assert_eq!(twin["relationships"], json!([{"name": "partOf", "to": "line", "twin": "line-1"}]));
    assert_eq!(site.twin("d-2")["relationships"], json!([]));
    let listed = site.command(&["twin", "list", "line"]);
    assert_eq!(listed.matches("never heard").count(), 2, "{listed}");
    heard(&mut site, "d-1");
    let listed = site.command(&["twin", "list", "line"]);
    assert_eq!(listed.matches("never heard").count(), 1, "{listed}");
    let rows = "id,class,line_id\nd-1,hydraulic,line-7\nd-2,,\nd-3,servo,line-1\n";
    std::fs::write(site.path().join("devices.csv"), rows).expect("the folder is ours");
    until("the new row", || (site.get("/v1/jobs/line/twins/d-3").status == 200).then_some(()));
    let twin = site.twin("d-1");
    assert_eq!(twin["attributes"], json!({"class": "hydraulic"}));
    assert_eq!((&twin["lifecycle"], &twin["properties"]["t"]), (&json!("entangled"), &json!(0.0)));
    // A file that is no good changes nothing.
    std::fs::write(site.path().join("devices.csv"), "id\nd-1\n").expect("the folder is ours");
    assert_eq!(site.twin("d-3")["attributes"], json!({"class": "servo"}));
}

/// Rules 4.3, 5.4: a device whose last will fires is down, which lowers A; it is up again when it says so.
#[test]
fn a_last_will_is_a_twin_that_is_down() {
    let mut site = with_roster("d-1,servo,line-1\n");
    let status = "device/d-1/status";
    heard(&mut site, "d-1");
    let device = site.broker.client_with_will("d-1", (status, "offline"));
    site.publisher.publish(status, "online");
    device.vanish();
    let twin = until("the will to be heard", || {
        let twin = site.twin("d-1");
        (twin["lifecycle"] == "unbound").then_some(twin)
    });
    assert_eq!(twin["reliability"], json!(1.0));
    let why = site.get("/v1/jobs/line/twins/d-1/why").json();
    assert!(why["verdict"].as_str().is_some_and(|verdict| verdict.starts_with("down since ")), "{why}");
    site.publisher.publish(status, "online");
    let twin = until("the twin to be bound again", || {
        let twin = site.twin("d-1");
        (twin["lifecycle"] != "unbound").then_some(twin)
    });
    assert!(twin["availability"].as_f64().is_some_and(|availability| availability < 1.0), "{twin}");
    assert_eq!(twin["reliability"], json!(1.0));
    site.kill();
    site.start();
    assert!(
        site.twin("d-1")["availability"].as_f64().is_some_and(|kept| kept < 1.0),
        "it is in the checkpoint"
    );
}

/// Rule 5.6: a twin that is retired takes no more updates, and answers.
#[test]
fn a_twin_is_retired_and_dismissed() {
    let mut site = with_roster("d-1,servo,line-1\nd-2,,\n");
    heard(&mut site, "d-1");
    assert_eq!(site.command(&["twin", "retire", "line", "d-1"]), "d-1 is done\n");
    site.publish("d-1", 5);
    site.publish("d-2", 6);
    site.settled("d-2", 6);
    assert_eq!(site.twin("d-1")["properties"]["t"], json!(0.0));
    assert_eq!(site.command(&["twin", "dismiss", "line", "d-1"]), "d-1 is stopped\n");
    assert_eq!(site.ask("POST", "/v1/jobs/line/twins/nobody/retire", "").status, 404);
    assert_eq!(site.ask("POST", "/v1/jobs/none/twins/d-1/retire", "").status, 404);
}
