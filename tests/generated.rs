//! A larger fleet, drawn from a seed: 200 twins of two types, 20,000 messages of several streams
//! over two sources, functions and events, with noise in times, order and payloads. Nobody could
//! check its output by hand; it must be the same on every layout (rules 2.3, 6.4).

use std::fmt::Write;
use std::path::Path;

use crate::cases::check_layouts;
use crate::harness::chance::Chance;

const TWINS: u64 = 200;
const MESSAGES: u64 = 20_000;
const BEGIN_MS: u64 = 1_700_000_000_000;

const JOB: &str = r#"
job: generated
connections:
  floor: {file: {path: floor.jsonl, clock: recorded}}
  grid: {file: {path: grid.jsonl, clock: recorded}}
  out: {file: {path: heard.jsonl}}
types:
  press:
    properties:
      t: {type: double}
      e: {type: double}
      mode: {type: enum, values: [idle, run, fault]}
      burst: {type: double}
      f: {type: double}
      mean: {type: double}
      smooth: {type: double}
      slope: {type: double}
    events: {hot: {type: double}, odd: {type: double}, door: {type: object}}
    physical:
      state:
        from: floor
        topics: ["press/{twin}/state"]
        at: {pointer: /at, format: unix_ms}
        properties: {t: /t, e: /e}
        historical: /old
        expected_rate: 1/s
      modes:
        from: grid
        topics: ["press/{twin}/mode"]
        at: arrival
        properties: {mode: {pointer: "", map: {0: idle, 1: run, 2: fault}}}
        expected_rate: none
      bursts: {from: floor, topics: ["press/{twin}/burst"], each: "", at: {pointer: /at, format: unix_ms}, properties: {burst: /v}, expected_rate: 10/m}
      doors: {from: grid, topics: ["door/+"], twin: /id, at: {pointer: /at, format: unix_ms}, events: {door: ""}, expected_rate: none}
    augmentation:
      f: {linear: {of: t, factor: 1.8, offset: 32}}
      mean: {mean: {of: t, window: 10s}}
      smooth: {ewma: {of: e, half_life: 5s}}
      slope: {rate: {of: e, per: 1m}}
      hot: {threshold: {of: t, above: 26, clear: 25}}
      odd: {outlier: {of: e, window: 1m, sigma: 3}}
    entanglement: {window: 60s, desired_timeliness: 200ms, threshold: 0.7, hysteresis: 0.05}
  meter:
    properties: {power: {type: double}, total: {type: integer}}
    physical:
      readings: {from: grid, topics: ["meter/{twin}"], at: {pointer: /at, format: unix_ms}, properties: {power: /power, total: /total}, expected_rate: 30/m}
    entanglement: {window: 30s, desired_timeliness: 100ms, threshold: 0.5, sample: 3s}
digital:
  - {to: out, kinds: [state, lifecycle, event]}
  - {to: out, kinds: [entanglement], topic: "odte/{type}/{twin}"}
archive: {path: archive, roll: 100KB}
"#;

/// The lines of both sources.
fn inputs(seed: u64) -> (String, String) {
    let mut chance = Chance::new(seed);
    let (mut floor, mut grid) = (String::new(), String::new());
    for number in 0..MESSAGES {
        // About two minutes in all; some lines stand a little before their time.
        let now = BEGIN_MS + number * 120_000 / MESSAGES - chance.below(8) * chance.below(50);
        let now = if chance.one_in(500) { now - chance.below(30_000) } else { now };
        // Every tenth twin is silent for the middle of the time.
        let is_middle = (MESSAGES / 6..MESSAGES * 5 / 6).contains(&number);
        // Some are so talkative that their windows hold more than is kept one by one (rule 4.7).
        let twin = chance.below(TWINS).min(chance.below(TWINS)).min(chance.below(TWINS));
        let twin = if is_middle && twin % 10 == 3 { twin + 1 } else { twin };
        let at = now - chance.below(300) - if chance.one_in(50) { chance.below(90_000) } else { 0 };
        let (t, e) = (15.0 + chance.below(1_200) as f64 / 100.0, chance.below(1_000) as f64 / 10.0);
        let (into, topic, payload) = match chance.below(20) {
            _ if twin % 4 == 0 => (
                &mut grid,
                format!("meter/m-{twin}"),
                format!(r#"{{"at":{at},"power":{t},"total":{number}}}"#),
            ),
            0 => (&mut grid, format!("press/p {twin}/mode"), chance.below(4).to_string()),
            1 => (&mut grid, "door/x".into(), format!(r#"{{"id":"p {twin}","at":{at}}}"#)),
            2 | 3 => {
                let bursts = format!(r#"[{{"at":{at},"v":{t}}},{{"at":{},"v":{e}}},{{"v":1}}]"#, at + 7);
                (&mut floor, format!("press/p {twin}/burst"), bursts)
            }
            4 if chance.one_in(5) => (&mut floor, format!("press/p {twin}/state"), "{\"at\":0}".into()),
            4 => {
                (&mut floor, format!("press/p {twin}/state"), format!(r#"{{"at":{at},"t":{t},"old":true}}"#))
            }
            5 => (&mut floor, format!("press/p {twin}/state"), format!(r#"{{"at":{at},"e":{e}}}"#)),
            _ => (&mut floor, format!("press/p {twin}/state"), format!(r#"{{"at":{at},"t":{t},"e":{e}}}"#)),
        };
        writeln!(into, r#"{{"topic":"{topic}","arrived_at":{now},"payload":{payload}}}"#)
            .expect("text takes all");
    }
    (floor, grid)
}

fn prepare(work: &Path) {
    let (floor, grid) = inputs(7);
    for (name, text) in [("job.yaml", JOB), ("floor.jsonl", &floor), ("grid.jsonl", &grid)] {
        std::fs::write(work.join(name), text).expect("the folder is ours");
    }
}

#[test]
fn a_drawn_fleet_that_is_stopped_half_way_goes_on() {
    crate::resumed::check(prepare);
}

#[test]
fn a_drawn_fleet_is_the_same_on_every_layout() {
    let outcome = check_layouts(prepare);
    // The fleet must have had something of everything, or the comparison says little.
    let rows = |table: &str| outcome.archive.get(table).map_or(0, |table| table.rows.len());
    assert!(rows("physical") > 15_000, "{}", outcome.summary);
    for table in ["state", "entanglement", "lifecycle", "events", "dead_letters"] {
        assert!(rows(table) > 100, "{table}: {} rows", rows(table));
    }
    let lifecycle = &outcome.archive["lifecycle"];
    for to in ["bound", "entangled", "disentangled", "unbound"] {
        assert!(lifecycle.count(&[("to", to)]) > 0, "no twin became {to}");
    }
    assert!(outcome.archive["physical"].cells("stale").iter().any(|stale| **stale == true));
    assert!(outcome.heard.len() > rows("state"));
}
