//! What the documents show is what the server does: each line of theirs that begins with `curl` is run.

use std::process::Command;

use serde_json::json;

use super::Site;
use crate::harness::until;

/// Where the examples have their server.
const ADDRESS: &str = "localhost:8420";

/// The lines of a document that a reader would paste, without what follows a `#`.
fn examples(document: &str) -> Vec<String> {
    let root = env!("CARGO_MANIFEST_DIR");
    let text = std::fs::read_to_string(format!("{root}/{document}")).expect("the document is there");
    let lines = text.lines().filter(|line| line.starts_with("curl "));
    lines.map(|line| line.split("   ").next().unwrap_or(line).trim().to_owned()).collect()
}

#[test]
fn every_example_of_the_documents_works() {
    let mut site = Site::new();
    let first = include_str!("../../examples/first.yaml");
    let archive = site.path().join("archive").display().to_string();
    let job = first
        .replace("mqtt://localhost:1883", &site.broker.url())
        .replace("./archive", &archive)
        .replace("job: first-twins", "job: first-twins\ncheckpoint: {interval: 100ms}");
    std::fs::write(site.path().join("job.yaml"), &job).expect("the folder is ours");
    assert_eq!(site.ask("PUT", "/v1/jobs/first-twins", &job).status, 201);
    let payload = json!({
        "timestamp": 1_646_847_376_104_i64,
        "data": {"iot.sensor.temperature": 24.28, "iot.sensor.energy": 4.67}
    });
    until("the twin to be there", || {
        site.publisher.publish("device/device-00/telemetry/device_state", payload.to_string());
        (site.get("/v1/jobs/first-twins/twins/device-00").status == 200).then_some(())
    });
    let mut run = 0;
    for document in ["README.md", "docs/server.md"] {
        for example in examples(document) {
            let here = example.replace(ADDRESS, &format!("127.0.0.1:{}", site.port));
            // A stream goes on until its reader has had enough.
            let is_stream = here.contains("-sN");
            let limit = if is_stream { "--max-time 1" } else { "" };
            let line = format!("{here} {limit} -o answer -w '%{{http_code}}'");
            let output = Command::new("sh").args(["-c", &line]).current_dir(site.path()).output();
            let output = output.expect("there is a shell");
            let status = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(status, "200", "{document}: {example}");
            assert!(output.status.success() || is_stream, "{document}: {example}: {output:?}");
            run += 1;
        }
    }
    assert!(run >= 14, "only {run} examples are found");
}
