//! Messages in, drafts out. Every draft is a job that is valid.

use expect_test::{Expect, expect};

use super::*;
use crate::job::Job;

const BEGIN_US: i64 = 1_767_225_600_000_000;

/// What a device says, so often: `{at}` in it is the time of sending in milliseconds, `{n}` the number of the message.
struct Speaks<'a>(&'a str, &'a str, i64, usize);

fn heard(all: &[Speaks<'_>]) -> Vec<Heard> {
    let mut heard = Vec::new();
    for Speaks(topic, payload, every_ms, times) in all {
        for number in 0..*times {
            let sent_us = BEGIN_US + number as i64 * every_ms * 1_000;
            let payload =
                payload.replace("{at}", &(sent_us / 1_000).to_string()).replace("{n}", &number.to_string());
            let payload = payload.replace("{word}", if number % 2 == 0 { "idle" } else { "run" });
            let arrived_us = sent_us + 20_000;
            heard.push(Heard {
                topic: (*topic).into(),
                payload: payload.into_bytes(),
                arrived_us,
                retained: false,
            });
        }
    }
    heard.sort_by_key(|one| one.arrived_us);
    heard
}

fn drafted(all: &[Speaks<'_>]) -> String {
    let listened = Listened {
        connection: r#"{"mqtt":{"url":"mqtt://h"}}"#.into(),
        url: "mqtt://h".into(),
        filter: "#".into(),
        seconds: 10.0,
    };
    match draft(&heard(all), &listened) {
        Ok(text) => {
            let job = Job::parse("job.yaml", &text, None);
            let job = job.unwrap_or_else(|findings| panic!("{}\n{text}", findings.plain()));
            assert!(job.warnings.all.is_empty(), "{}\n{text}", job.warnings.plain());
            text
        }
        Err(error) => format!("{error}\n"),
    }
}

fn check(all: &[Speaks<'_>], expected: Expect) {
    let text = drafted(all);
    let from = text.find("types:\n").unwrap_or(0);
    let to = text.find("digital:\n").unwrap_or(text.len());
    expected.assert_eq(&text[from..to]);
}

#[test]
fn the_papers_device() {
    let payload = r#"{"timestamp":{at},"type":"aggregated","data":{"iot.sensor.temperature":24.{n},"iot.sensor.energy_kwh":4.67}}"#;
    check(
        &[
            Speaks("device/p-1/telemetry/device_state", payload, 1_000, 10),
            Speaks("device/p-2/telemetry/device_state", payload, 1_000, 10),
        ],
        expect![[r#"
            types:
              device:                                       # 2 seen: p-1, p-2
                properties:
                  temperature: {type: double}               # 24 to 24.9
                  energy_kwh: {type: double, unit: kW.h}    # always 4.67
                physical:
                  device_state:
                    from: broker
                    topics: ["device/{twin}/telemetry/device_state"]
                    at: {pointer: /timestamp, format: unix_ms}  # 99 of 100 arrive within 0.020 s
                    properties:
                      temperature: /data/iot.sensor.temperature
                      energy_kwh: /data/iot.sensor.energy_kwh
                    expected_rate: 1/s                      # every 1 s, mostly 1 to 1
                    # left out: /type: always "aggregated"
                entanglement: {window: 60s, desired_timeliness: 1s, threshold: 0.9}
        "#]],
    );
}

#[test]
fn several_streams_words_and_what_is_left_out() {
    let state = r#"{"id":"press-1","ts":{at},"mode":"{word}","count":{n},"on":true,"raw":[1,2],"deep":{"list":[{"a":1}]}}"#;
    check(
        &[
            Speaks("plant/press-1/state", state, 5_000, 12),
            Speaks("plant/press-2/state", &state.replace("press-1", "press-2"), 5_000, 12),
            Speaks("plant/press-1/door", "open", 7_000, 1),
            Speaks("plant/press-1/spectrum", r#"[{"ts":{at},"hz":50.5},{"ts":{at},"hz":51.5}]"#, 1_000, 8),
        ],
        expect![[r#"
            types:
              plant:                                        # 2 seen: press-1, press-2
                properties:
                  door: {type: string}                      # such as "open"
                  hz: {type: double, unit: Hz}              # 50.5 to 51.5
                  mode: {type: enum, values: [idle, run]}   # ? a word that is not listed is a dead letter
                  count: {type: integer}                    # 0 to 11; ? whole so far: double, if a fraction may come
                  on: {type: boolean}                       # true or false
                  raw: {type: array, items: double}         # a list of numbers
                physical:
                  door:
                    from: broker
                    topics: ["plant/{twin}/door"]
                    decode: value                           # the payload is the value itself
                    at: arrival                             # no time of the device was found
                    properties:
                      door: ""
                    expected_rate: none                     # 1 messages of 1 twins, too few to tell a rate; listen longer with --for
                  spectrum:
                    from: broker
                    topics: ["plant/{twin}/spectrum"]
                    each: ""                                # each message is a list of measurements
                    at: {pointer: /ts, format: unix_ms}     # 99 of 100 arrive within 0.020 s
                    properties:
                      hz: /hz
                    expected_rate: 1/s                      # every 1 s, mostly 1 to 1; messages, not elements
                  state:
                    from: broker
                    topics: ["plant/{twin}/state"]
                    at: {pointer: /ts, format: unix_ms}     # 99 of 100 arrive within 0.020 s
                    properties:
                      mode: /mode
                      count: /count
                      on: /on
                      raw: /raw
                    expected_rate: 0.2/s                    # every 5 s, mostly 5 to 5
                    # left out: /id: it stands in the topic as well
                    # left out: /deep/list: a list of what is no number; `each` takes the elements of one apart
                entanglement: {window: 100s, desired_timeliness: 1s, threshold: 0.9}
        "#]],
    );
}

#[test]
fn types_beside_each_other_and_below() {
    let meter = r#"{"time":{at},"power_kw":1.5}"#;
    check(
        &[
            Speaks("press/1/state", r#"{"t":20.5}"#, 1_000, 5),
            Speaks("press/2/state", r#"{"t":21.5}"#, 1_000, 5),
            Speaks("meters/1/power", meter, 60_000, 5),
            Speaks("meters/2/power", meter, 60_000, 5),
        ],
        expect![[r#"
            types:
              meter:                                        # 2 seen: 1, 2
                properties:
                  power_kw: {type: double, unit: kW}        # always 1.5
                physical:
                  power:
                    from: broker
                    topics: ["meters/{twin}/power"]
                    at: {pointer: /time, format: unix_ms}   # 99 of 100 arrive within 0.020 s
                    properties:
                      power_kw: /power_kw
                    expected_rate: 1/m                      # every 60 s, mostly 60 to 60
                entanglement: {window: 20m, desired_timeliness: 1s, threshold: 0.9}
              press:                                        # 2 seen: 1, 2
                properties:
                  t: {type: double}                         # 20.5 to 21.5
                physical:
                  state:
                    from: broker
                    topics: ["press/{twin}/state"]
                    at: arrival                             # no time of the device was found
                    properties:
                      t: /t
                    expected_rate: 1/s                      # every 1 s, mostly 1 to 1
                entanglement: {window: 60s, desired_timeliness: 1s, threshold: 0.9}
        "#]],
    );
}

/// The level of the twins, by topics alone.
#[test]
fn the_twin_is_the_level_that_varies_and_below_which_the_same_stands() {
    for (topics, expected) in [
        ("device/a/t device/b/t", "device/{twin}/t"),
        ("site/a1/d1/t site/a1/d2/t site/a2/d3/t site/a2/d4/t", "site/a1/{twin}/t site/a2/{twin}/t"),
        (
            "home/p-1/temperature home/p-1/humidity home/p-2/temperature home/p-2/humidity",
            "home/{twin}/temperature home/{twin}/humidity",
        ),
        ("home/temperature home/humidity", "{twin}/temperature {twin}/humidity"),
        ("press/1/s press/2/s meter/1/s meter/2/s", "meter/{twin}/s press/{twin}/s"),
        ("p/status p/d-1/t p/d-2/t", "p/{twin}/t {twin}/status"),
        ("d/1", "d/{twin}"),
        ("d/1/t", "d/{twin}/t"),
        ("d1 d2", "{twin}"),
    ] {
        let shape: Shape = [String::new()].into();
        let topics: Vec<(&str, Shape)> = topics.split(' ').map(|topic| (topic, shape.clone())).collect();
        let levels = topics::levels(&topics);
        let mut found: Vec<String> = levels
            .iter()
            .flat_map(|level| level.streams.keys().map(|suffix| level.pattern(suffix)))
            .collect();
        let mut expected: Vec<&str> = expected.split(' ').collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{topics:?}");
    }
}

#[test]
fn times_are_found_in_their_formats_or_not() {
    for (payload, expected) in [
        (r#"{"ts":{at},"v":1.5}"#, "at: {pointer: /ts, format: unix_ms}"),
        (r#"{"a":{"when":{at}000},"v":1.5}"#, "at: {pointer: /a/when, format: unix_us}"),
        (r#"{"x":{at},"v":1.5}"#, "at: {pointer: /x, format: unix_ms}"),
        (r#"{"time":"2026-01-01T00:00:0{n}Z","v":1.5}"#, "at: {pointer: /time, format: rfc3339}"),
        (r#"{"ts":123,"v":1.5}"#, "at: arrival"),
        (r#"{"ts":"today","v":1.5}"#, "at: arrival"),
    ] {
        let text = drafted(&[Speaks("d/1/t", payload, 1_000, 9), Speaks("d/2/t", payload, 1_000, 9)]);
        assert!(text.contains(expected), "{payload}: {text}");
    }
}

#[test]
fn what_cannot_be_drafted_is_said() {
    for (all, expected) in [
        (vec![], "nothing was heard on #"),
        (
            vec![Speaks("twins/j/p/state", "{}", 1, 1), Speaks("$SYS/uptime", "1", 1, 1)],
            "nothing was heard on #",
        ),
        (vec![Speaks("d/1/t", r#"[{"n":"t","v":1}]"#, 1, 1)], "decode: senml"),
        (vec![Speaks("d/1/t", "1;2;3", 1, 1)], "decode: csv"),
        (vec![Speaks("spBv1.0/g/DDATA/e/d", "\u{0}\u{1}", 1, 1)], "Sparkplug B"),
        (vec![Speaks("d/1/t", r#"{"a":null}"#, 1, 1)], "no value varies"),
    ] {
        let text = drafted(&all);
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

/// Names that a job file could not have, or would read as something else, are made such as it can.
#[test]
fn strange_names_are_made_plain() {
    let payload = r#"{"a b/c~d":1.5,"on":2.5,"1st":3.5,"data":{"x":4.5},"more":{"x":5.5}}"#;
    let text =
        drafted(&[Speaks("Geräte/№ 1/t x", payload, 1_000, 5), Speaks("Geräte/№ 2/t x", payload, 1_000, 5)]);
    for piece in
        ["c_d: \"/a b~1c~0d\"", "v1st: /1st", "x: /data/x", "more_x: /more/x", "\"Geräte/{twin}/t x\""]
    {
        assert!(text.contains(piece), "{piece}: {text}");
    }
}
