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

#[test]
fn rule_5_5_a_lost_source_unbinds_its_twins_in_a_walk() {
    check(
        worker(10),
        "
        at 1s press a b c d
        lost 0 at 2s incident 7
        walk 1
        walk 2
        survey
        ",
        expect![[r#"
            at 1s press a b c d
              01.000 a unbound -> bound heard
              01.000 a bound -> entangled fresh
              01.000 b unbound -> bound heard
              01.000 b bound -> entangled fresh
              01.000 c unbound -> bound heard
              01.000 c bound -> entangled fresh
              01.000 d unbound -> bound heard
              01.000 d bound -> entangled fresh
            lost 0 at 2s incident 7
            walk 1
              02.000 c entangled -> unbound source_lost incident 7
            walk 2
              02.000 a entangled -> unbound source_lost incident 7
              02.000 d entangled -> unbound source_lost incident 7
            survey
              survey 5: 4 twins, by phase [4, 0, 0, 0, 0, 0], 4 events, 0 dead letters, 28 digital events
              02.000 b entangled -> unbound source_lost incident 7
        "#]],
    );
}

#[test]
fn rule_5_4_a_twin_that_is_updated_during_the_walk_is_unbound_first_and_bound_by_what_is_newer() {
    check(
        worker(10),
        "
        at 1s press a b c d
        lost 0 at 2s incident 7
        walk 1
        restored 0
        at 3s press a b c d
        walk 9
        at 3.5s press a b c d
        survey
        ",
        expect![[r#"
            at 1s press a b c d
              01.000 a unbound -> bound heard
              01.000 a bound -> entangled fresh
              01.000 b unbound -> bound heard
              01.000 b bound -> entangled fresh
              01.000 c unbound -> bound heard
              01.000 c bound -> entangled fresh
              01.000 d unbound -> bound heard
              01.000 d bound -> entangled fresh
            lost 0 at 2s incident 7
            walk 1
              02.000 c entangled -> unbound source_lost incident 7
            restored 0
            at 3s press a b c d
              02.000 a entangled -> unbound source_lost incident 7
              03.000 a unbound -> bound heard
              03.000 a bound -> entangled fresh
              02.000 b entangled -> unbound source_lost incident 7
              03.000 b unbound -> bound heard
              03.000 b bound -> entangled fresh
              03.000 c unbound -> bound heard
              03.000 c bound -> entangled fresh
              02.000 d entangled -> unbound source_lost incident 7
              03.000 d unbound -> bound heard
              03.000 d bound -> entangled fresh
            walk 9
            at 3.5s press a b c d
            survey
              survey 5: 4 twins, by phase [0, 0, 4, 0, 0, 0], 12 events, 0 dead letters, 52 digital events
        "#]],
    );
}

#[test]
fn rule_5_4_an_update_that_arrived_before_the_loss_does_not_bind() {
    check(
        worker(10),
        "
        at 1s press a b c
        lost 0 at 2s incident 7
        at 3s press a b c new arrived 1.9s
        walk 9
        at 4s press a arrived 2.1s
        survey
        ",
        expect![[r#"
            at 1s press a b c
              01.000 a unbound -> bound heard
              01.000 a bound -> entangled fresh
              01.000 b unbound -> bound heard
              01.000 b bound -> entangled fresh
              01.000 c unbound -> bound heard
              01.000 c bound -> entangled fresh
            lost 0 at 2s incident 7
            at 3s press a b c new arrived 1.9s
              02.000 a entangled -> unbound source_lost incident 7
              02.000 b entangled -> unbound source_lost incident 7
              02.000 c entangled -> unbound source_lost incident 7
            walk 9
            at 4s press a arrived 2.1s
              04.000 a unbound -> bound heard
              04.000 a bound -> disentangled stale
            survey
              survey 5: 4 twins, by phase [3, 0, 0, 1, 0, 0], 8 events, 0 dead letters, 30 digital events
        "#]],
    );
}

#[test]
fn rule_5_4_a_twin_that_took_a_backlog_before_the_news_of_the_loss_came_is_unbound() {
    check(
        worker(10),
        "
        at 1s press a b
        at 3s press a arrived 1.9s
        lost 0 at 2s incident 7
        walk 9
        survey
        ",
        expect![[r#"
            at 1s press a b
              01.000 a unbound -> bound heard
              01.000 a bound -> entangled fresh
              01.000 b unbound -> bound heard
              01.000 b bound -> entangled fresh
            at 3s press a arrived 1.9s
              03.000 a entangled -> disentangled stale
            lost 0 at 2s incident 7
            walk 9
              03.000 a disentangled -> unbound source_lost incident 7
              02.000 b entangled -> unbound source_lost incident 7
            survey
              survey 5: 2 twins, by phase [2, 0, 0, 0, 0, 0], 3 events, 0 dead letters, 17 digital events
        "#]],
    );
}

#[test]
fn rule_5_4_a_twin_that_was_heard_after_the_loss_before_the_news_of_it_came_stays_bound() {
    check(
        worker(10),
        "
        at 1s press a b
        at 3s press a arrived 2.5s
        lost 0 at 2s incident 7
        restored 0
        walk 9
        survey
        ",
        expect![[r#"
            at 1s press a b
              01.000 a unbound -> bound heard
              01.000 a bound -> entangled fresh
              01.000 b unbound -> bound heard
              01.000 b bound -> entangled fresh
            at 3s press a arrived 2.5s
            lost 0 at 2s incident 7
            restored 0
            walk 9
              02.000 b entangled -> unbound source_lost incident 7
            survey
              survey 5: 2 twins, by phase [1, 0, 1, 0, 0, 0], 3 events, 0 dead letters, 13 digital events
        "#]],
    );
}

#[test]
fn rule_5_4_only_the_loss_of_all_its_sources_unbinds_a_twin() {
    check(
        worker(10),
        "
        at 1s pump p
        at 1s press a
        lost 1 at 2s incident 7
        lost 0 at 3s incident 8
        at 4s pump p arrived 3.5s stream 1
        walk 9
        restored 0
        lost 0 at 5s incident 9
        walk 9
        survey
        ",
        expect![[r#"
            at 1s pump p
              01.000 p unbound -> bound heard
              01.000 p bound -> entangled fresh
            at 1s press a
              01.000 a unbound -> bound heard
              01.000 a bound -> entangled fresh
            lost 1 at 2s incident 7
            lost 0 at 3s incident 8
            at 4s pump p arrived 3.5s stream 1
              03.000 p entangled -> unbound source_lost incident 8
              04.000 p unbound -> bound heard
              04.000 p bound -> entangled fresh
            walk 9
              03.000 a entangled -> unbound source_lost incident 8
            restored 0
            lost 0 at 5s incident 9
            walk 9
              05.000 p entangled -> unbound source_lost incident 9
            survey
              survey 5: 2 twins, by phase [2, 0, 0, 0, 0, 0], 3 events, 0 dead letters, 21 digital events
        "#]],
    );
}

#[test]
fn rule_5_5_two_losses_in_a_row_are_walked_one_after_the_other() {
    check(
        worker(10),
        "
        at 1s press a b c d
        lost 0 at 2s incident 7
        walk 1
        restored 0
        at 3s press a b c d
        lost 0 at 4s incident 8
        at 5s press a b
        walk 9
        walk 9
        survey
        ",
        expect![[r#"
            at 1s press a b c d
              01.000 a unbound -> bound heard
              01.000 a bound -> entangled fresh
              01.000 b unbound -> bound heard
              01.000 b bound -> entangled fresh
              01.000 c unbound -> bound heard
              01.000 c bound -> entangled fresh
              01.000 d unbound -> bound heard
              01.000 d bound -> entangled fresh
            lost 0 at 2s incident 7
            walk 1
              02.000 c entangled -> unbound source_lost incident 7
            restored 0
            at 3s press a b c d
              02.000 a entangled -> unbound source_lost incident 7
              03.000 a unbound -> bound heard
              03.000 a bound -> entangled fresh
              02.000 b entangled -> unbound source_lost incident 7
              03.000 b unbound -> bound heard
              03.000 b bound -> entangled fresh
              03.000 c unbound -> bound heard
              03.000 c bound -> entangled fresh
              02.000 d entangled -> unbound source_lost incident 7
              03.000 d unbound -> bound heard
              03.000 d bound -> entangled fresh
            lost 0 at 4s incident 8
            at 5s press a b
              04.000 a entangled -> unbound source_lost incident 8
              05.000 a unbound -> bound heard
              05.000 a bound -> entangled fresh
              04.000 b entangled -> unbound source_lost incident 8
              05.000 b unbound -> bound heard
              05.000 b bound -> entangled fresh
            walk 9
            walk 9
              04.000 c entangled -> unbound source_lost incident 8
              04.000 d entangled -> unbound source_lost incident 8
            survey
              survey 5: 4 twins, by phase [2, 0, 2, 0, 0, 0], 10 events, 0 dead letters, 66 digital events
        "#]],
    );
}
