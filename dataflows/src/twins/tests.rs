//! Tables for the twins of one worker: a script of parcels, losses and walks in, a line for each step
//! in a twin's life and each dead letter out.

use std::collections::VecDeque;

use arrow_array::cast::AsArray;
use connectors::message::MessageBatch;
use expect_test::{Expect, expect};
use operators::batch::{ClaimedTime, HeadParts};
use operators::bus::Bus;
use operators::digital::{DigitalKind, Envelope, Rows, RowsSettings, Table, TopicTemplate};
use operators::entanglement::{EntanglementSettings, Rate, Terms};
use operators::model::{ModelSettings, Value, compile};
use operators::time::{ArrivalTime, DeviceTime};
use operators::twin::StreamOf;

mod asked;
mod losses;

use asked::{ask, surveyed};

use super::*;
use crate::calls::{Handover, OpenFunctions};
use crate::digital::Delivery;
use crate::plan::{ListenerPlan, TimeMode};

/// A type whose first stream comes from the first of these sources, and so on; settles at once.
fn twin_type(name: &str, sources: &[u16]) -> TwinType {
    let properties = r#"{"t": {"type": "double"}}"#;
    let model = compile(&ModelSettings {
        properties: serde_json::from_str(properties).expect("well formed"),
        ..ModelSettings::default()
    });
    let settings: EntanglementSettings =
        serde_json::from_str(r#"{"window": "10s", "settle": "0s"}"#).expect("well formed");
    let rates = vec![Rate::None; sources.len()];
    TwinType {
        name: name.into(),
        model: model.expect("the model is good"),
        clock: (&settings.clock).into(),
        functions: Default::default(),
        terms: Terms::compile(&settings, &rates).expect("the settings are good"),
        sources: sources.to_vec(),
        streams: sources
            .iter()
            .map(|source| StreamOf { name: format!("from {source}"), source: *source })
            .collect(),
        presence: None,
    }
}

/// A worker with at most `twins_max` twins of the types `press` and `valve`, from source 0, and
/// `pump`, from both sources.
fn worker(twins_max: u64) -> Twins {
    let types = vec![twin_type("press", &[0]), twin_type("valve", &[0]), twin_type("pump", &[0, 1])];
    let settings = RowsSettings { physical: false };
    let rows = Rows::new(settings, types.iter(), vec!["plant".into(), "yard".into()]);
    let listener = ListenerPlan {
        sink: 0,
        topic: TopicTemplate::parse("{kind}", "line", Bus::Levels).expect("a good topic"),
        kinds: vec![DigitalKind::Lifecycle],
        retain: None,
        gate: None,
    };
    let envelope = Envelope::new("line", 1, types.iter());
    let digital =
        Digital::new(envelope, vec![listener], &[false], Some(rows.expect("the columns do not clash")));
    let calls =
        Calls::new("line", &types, OpenFunctions::default(), Arc::new(Handover::new(1)), TimeMode::Live);
    Twins::new(Arc::new(types), 2, digital, calls, twins_max, Arc::new(Metrics::default()))
}

fn micros(text: &str) -> i64 {
    let seconds: f64 = text.strip_suffix('s').expect("a time in seconds").parse().expect("a number");
    (seconds * 1e6).round() as i64
}

/// Seconds of an instant in the first minute of 1970.
fn seconds(rfc3339: &str) -> &str {
    let text = rfc3339.strip_prefix("1970-01-01T00:00:").expect("an instant of the first minute");
    text.trim_end_matches('Z')
}

/// Lines of a script:
///
/// ```text
/// at 3s press a b c [arrived 2s] [stream 1]   updates of twins of a type; the clock shows 3 s
/// lost 0 at 4s incident 7                     the news that a source was lost at 4 s comes
/// restored 0
/// walk 2                                      a walk goes on, over at most 2 twins
/// survey                                      the answer of all twins, in one walk
/// ```
fn check(mut twins: Twins, script: &str, expected: Expect) {
    let mut found = String::new();
    let mut now_us = 0;
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        found += &format!("{line}\n");
        let mut words: VecDeque<&str> = line.split_whitespace().collect();
        let mut next = || words.pop_front().expect("one more word");
        match next() {
            "at" => {
                now_us = micros(next());
                update(&mut twins, now_us, words.make_contiguous());
            }
            "lost" => {
                let source = next().parse().expect("a number");
                let (_, at_us, _, incident) = (next(), micros(next()), next(), next());
                twins.source_lost(source, at_us, incident.parse().expect("a number"));
            }
            "restored" => twins.source_restored(next().parse().expect("a number")),
            "walk" => assert!(twins.sweep(now_us, next().parse().expect("a number")).is_none()),
            _ => {
                ask(&mut twins, 5);
                let mut answer = None;
                while twins.is_sweeping() {
                    answer = twins.sweep(now_us, 1).or(answer);
                }
                let (number, answer) = surveyed(answer);
                found += &format!(
                    "  survey {}: {} twins, by phase {:?}, {} events, {} dead letters, {} digital events\n",
                    number,
                    answer.twins,
                    answer.phases,
                    answer.events,
                    answer.dead_letters,
                    answer.digital_events
                );
            }
        }
        twins.report();
        tell(&mut twins, &mut found);
    }
    expected.assert_eq(&found);
}

fn update(twins: &mut Twins, now_us: i64, words: &[&str]) {
    let after = |key: &str| {
        let index = words.iter().position(|word| *word == key)?;
        Some(words[index + 1])
    };
    let ids = words[1..].iter().take_while(|word| !matches!(**word, "arrived" | "stream"));
    let arrived_us = after("arrived").map_or(now_us, micros);
    let types = ["press", "valve", "pump"];
    let stream: u16 = after("stream").map_or(0, |stream| stream.parse().expect("a number"));
    let mut events = EventBatch::default();
    for (position, id) in ids.enumerate() {
        let mark = events.begin();
        events.push_property(mark, 0, Value::Double(1.0));
        let parts = HeadParts {
            position: position as u64,
            element: 0,
            physical_at: DeviceTime(arrived_us),
            claimed: ClaimedTime::Device,
            arrived_at: ArrivalTime(arrived_us),
            twin_type: types.iter().position(|name| *name == words[0]).unwrap_or(9) as u16,
            stream,
            live: true,
        };
        events.finish(mark, id, parts);
    }
    let clock = || now_us;
    twins.apply(&events, 0..events.len(), stream, Stamp::Clock(&clock));
}

/// What came of the last line of the script.
fn tell(twins: &mut Twins, found: &mut String) {
    twins.digital.take(true, |delivery| match delivery {
        Delivery::Messages(_, batch) => lives(&batch, found),
        Delivery::Rows(rows) if rows.table == Table::DeadLetters => {
            let text = |column| rows.rows.column(column).as_string::<i32>();
            for row in 0..rows.rows.num_rows() {
                let (source, reason, payload) = (text(1).value(row), text(4).value(row), text(5).value(row));
                *found += &format!("  dead letter of {source}: {payload}: {reason}\n");
            }
        }
        Delivery::Rows(_) | Delivery::Boundary(_) | Delivery::Look(_) => {}
    });
}

fn lives(batch: &MessageBatch, found: &mut String) {
    let mut start = 0;
    for entry in &batch.entries {
        let payload = &batch.bytes[entry.topic_end as usize..entry.payload_end as usize];
        assert_eq!(&batch.bytes[start..entry.topic_end as usize], b"lifecycle");
        start = entry.payload_end as usize;
        let life: serde_json::Value = serde_json::from_slice(payload).expect("an envelope is JSON");
        let text = |key: &str| life[key].as_str().expect("a text");
        let incident =
            life["incident"].as_u64().map_or(String::new(), |number| format!(" incident {number}"));
        *found += &format!(
            "  {} {} {} -> {} {}{incident}\n",
            seconds(text("at")),
            text("twin"),
            text("from"),
            text("to"),
            text("reason")
        );
    }
}

#[test]
fn a_twin_keeps_its_type_and_an_event_of_another_is_a_dead_letter() {
    check(
        worker(10),
        "
        at 1s press a
        at 2s valve a b
        at 3s other c
        survey
        ",
        expect![[r#"
            at 1s press a
              01.000 a unbound -> bound heard
              01.000 a bound -> entangled fresh
            at 2s valve a b
              02.000 b unbound -> bound heard
              02.000 b bound -> entangled fresh
              dead letter of plant: a: the twin is of type `press`, not `valve`
            at 3s other c
              dead letter of plant: c: the event is of an unknown type
            survey
              survey 5: 2 twins, by phase [0, 0, 2, 0, 0, 0], 2 events, 2 dead letters, 10 digital events
        "#]],
    );
}

#[test]
fn rule_8_2_a_twin_beyond_the_limit_is_a_dead_letter_and_known_ones_go_on() {
    check(
        worker(2),
        "
        at 1s press a b c
        at 2s press c b a
        survey
        ",
        expect![[r#"
            at 1s press a b c
              01.000 a unbound -> bound heard
              01.000 a bound -> entangled fresh
              01.000 b unbound -> bound heard
              01.000 b bound -> entangled fresh
              dead letter of plant: c: the worker has its limit of 2 twins
            at 2s press c b a
              dead letter of plant: c: the worker has its limit of 2 twins
            survey
              survey 5: 2 twins, by phase [0, 0, 2, 0, 0, 0], 4 events, 2 dead letters, 12 digital events
        "#]],
    );
}
