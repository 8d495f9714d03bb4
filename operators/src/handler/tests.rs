//! Tables for what a twin announces: a script of updates, ticks and losses in, a line for each
//! digital event out. Each case is named by its rule.

use expect_test::{Expect, expect};
use serde_json::Value as Json;

use super::*;
use crate::batch::ClaimedTime;
use crate::fixture::{Update, apply, twin_type};

/// A line for each digital event. Shared with the property tests of wakes.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) lines: Vec<String>,
    /// Updates that only make history say nothing.
    quiet: bool,
}

/// Microseconds as seconds, without needless digits.
fn seconds(at_us: i64) -> String {
    let text = format!("{:.6}", at_us as f64 / 1e6);
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

impl Recorder {
    fn line(&mut self, at_us: i64, what: &str) {
        self.lines.push(format!("{:<10} {what}", seconds(at_us)));
    }
}

impl DigitalEvents for Recorder {
    fn physical(&mut self, _: Of<'_>, physical: &Physical<'_>) {
        let Shadowed { update, time_source, stale, observed, .. } = physical.shadowed;
        let stale = if stale { " stale" } else { "" };
        let observed = if observed { "" } else { " unobserved" };
        if !self.quiet {
            let what = format!("physical {update} {}{stale}{observed}", time_source.word());
            self.line(physical.digital_at.0, &what);
        }
    }

    fn state(&mut self, of: Of<'_>, state: &State<'_>) {
        let update = state.physical.shadowed.update;
        let revision = of.twin.handled.revision;
        let name = |property: &u16| of.definition.model.properties[usize::from(*property)].name.as_str();
        let changed: Vec<_> = state.changed.iter().map(name).collect();
        let phase = of.twin.life_cycle.phase().word();
        let what = format!(
            "state update {update} revision {revision} changed [{}] odte {:.2} {phase}",
            changed.join(" "),
            state.odte
        );
        if !self.quiet {
            self.line(state.physical.digital_at.0, &what);
        }
    }

    fn entangled(&mut self, of: Of<'_>, entangled: &Entangled) {
        let Measure { timeliness, reliability, odte, received, expected, .. } = entangled.measure;
        let lateness = entangled.lateness.map_or("nothing in the window".to_owned(), |lateness| {
            format!(
                "transport {:.0}ms compute {:.0}ms",
                lateness.transport_us / 1e3,
                lateness.compute_us / 1e3
            )
        });
        let what = format!(
            "entanglement change {} revision {} T {timeliness:.3} R {reliability:.3} odte {odte:.3}, \
             {received:.1} of {expected:.1}, {lateness}",
            entangled.change, of.twin.handled.revision
        );
        self.line(entangled.at_us, &what);
    }

    fn lived(&mut self, of: Of<'_>, lived: &Lived) {
        let Transition { at_us, from, to, reason, incident } = lived.transition;
        let incident = incident.map_or(String::new(), |number| format!(" incident {number}"));
        let what = format!(
            "lifecycle change {} revision {} {} -> {} {}{incident}",
            lived.change,
            of.twin.handled.revision,
            from.word(),
            to.word(),
            reason.word()
        );
        self.line(at_us, &what);
    }

    fn happened(&mut self, of: Of<'_>, happened: &Happened<'_>) {
        let update = of.twin.shadow.update();
        let revision = of.twin.handled.revision;
        let name = &of.definition.model.events[usize::from(happened.event)];
        let value = match happened.value {
            HappenedValue::Json(json) => json.to_owned(),
            HappenedValue::Number(number) => number.to_string(),
        };
        let what = format!("event update {update} revision {revision} {name}[{}] {value}", happened.index);
        self.line(happened.digital_at.0, &what);
    }
}

/// A press: window 10 s, T_d 1 s, threshold 0.8, a message a second; more settings may follow.
fn press(entanglement: &str) -> TwinType {
    press_with(entanglement, r#"{"a": "1/s"}"#)
}

fn press_with(entanglement: &str, streams: &str) -> TwinType {
    let comma = if entanglement.is_empty() { "" } else { "," };
    twin_type(
        "press",
        &format!(
            r#"{{
                "properties": {{"t": {{"type": "double"}}, "e": {{"type": "double"}}, "f": {{"type": "double"}}}},
                "events": {{"alarm": {{"type": "string"}}, "hot": {{"type": "double"}}}},
                "functions": {{
                    "f": {{"linear": {{"of": "t", "factor": 1.8, "offset": 32}}}},
                    "hot": {{"threshold": {{"of": "t", "above": 80}}}}
                }},
                "entanglement": {{
                    "window": "10s", "desired_timeliness": "1s", "threshold": 0.8{comma} {entanglement}
                }},
                "streams": {streams}
            }}"#
        ),
    )
}

fn micros(text: &str) -> i64 {
    let (number, unit_us) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e3),
        None => (text.strip_suffix('s').expect("a time in s or ms"), 1e6),
    };
    (number.parse::<f64>().expect("a number") * unit_us).round() as i64
}

/// Lines of a script; the time is digital time:
///
/// ```text
/// at 3s update t=1 alarm="open" [late 20ms] [compute 5ms] [arrival] [retained] [stream 1]
/// at 0s..9s every 1s quiet update t=1      only what is more than history is shown
/// at 10s tick                              ticks that are due at 10 s run
/// at 11s lost 7                            its source is lost, incident 7
/// ```
///
/// As on a worker, an update that arrived before the last loss does not bind, and updates run ticks
/// where the twin's wake says so.
fn check(definition: TwinType, script: &str, expected: Expect) {
    let mut twin = Twin::new(0, &definition);
    let mut recorder = Recorder::default();
    let mut lost_us = None;
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |key: &str| {
            let index = words.iter().position(|word| *word == key)?;
            Some(words[index + 1])
        };
        let has = |key: &str| words.contains(&key);
        let (from, to) = words[1].split_once("..").unwrap_or((words[1], words[1]));
        let step_us = after("every").map_or(i64::MAX / 2, micros);
        let mut at_us = micros(from);
        while at_us <= micros(to) {
            if has("tick") {
                tick("p", &mut twin, &definition, at_us, &mut recorder);
            } else if let Some(incident) = after("lost") {
                lost_us = Some(at_us);
                let incident = incident.parse().expect("a number");
                source_lost("p", &mut twin, &definition, at_us, incident, &mut recorder);
            } else {
                recorder.quiet = has("quiet");
                let values = words.iter().filter_map(|word| word.split_once('='));
                let values = values.map(|(name, json)| {
                    (name.to_owned(), serde_json::from_str::<Json>(json).expect("a JSON value"))
                });
                let arrived_us = at_us - after("compute").map_or(0, micros);
                let update = Update {
                    physical_us: arrived_us - after("late").map_or(0, micros),
                    claimed: if has("arrival") { ClaimedTime::Arrival } else { ClaimedTime::Device },
                    arrived_us,
                    stream: after("stream").map_or(0, |stream| stream.parse().expect("a number")),
                    live: !has("retained"),
                    binds: lost_us.is_none_or(|lost_us| arrived_us > lost_us),
                    values: values.collect(),
                    ..Update::at(at_us, &[])
                };
                apply("p", &mut twin, &definition, &update, false, &mut recorder);
                recorder.quiet = false;
            }
            at_us += step_us;
        }
    }
    expected.assert_eq(&recorder.lines.iter().map(|line| format!("{line}\n")).collect::<String>());
}

#[test]
fn rule_1_1_every_accepted_input_is_numbered_and_1_2_only_a_consolidated_state_makes_a_revision() {
    check(
        press(""),
        r#"
        at 1s update t=1
        at 1.1s update t=0 late 500ms
        at 1.2s update alarm="open"
        at 1.3s update t=1
        at 1.4s update t=81 alarm="shut"
        at 20s tick
        "#,
        expect![[r#"
            1s         physical 1 device
            1s         state update 1 revision 1 changed [t f] odte 1.00 bound
            1s         lifecycle change 1 revision 1 unbound -> bound heard
            1s         entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            1.1s       physical 2 device stale
            1.2s       physical 3 device
            1.2s       event update 3 revision 1 alarm[0] "open"
            1.3s       physical 4 device
            1.3s       state update 4 revision 2 changed [] odte 1.00 bound
            1.4s       physical 5 device
            1.4s       state update 5 revision 3 changed [t f] odte 1.00 bound
            1.4s       event update 5 revision 3 alarm[0] "shut"
            1.4s       event update 5 revision 3 hot[0] 81
            4s         lifecycle change 3 revision 3 bound -> entangled fresh
            4s         entanglement change 4 revision 3 T 1.000 R 1.000 odte 1.000, 5.0 of 3.0, transport 100ms compute 0ms
            7.250001s  lifecycle change 5 revision 3 entangled -> disentangled stale
            7.250001s  entanglement change 6 revision 3 T 1.000 R 0.800 odte 0.800, 5.0 of 6.3, transport 100ms compute 0ms
            10s        entanglement change 7 revision 3 T 1.000 R 0.556 odte 0.556, 5.0 of 9.0, transport 100ms compute 0ms
            11.400001s lifecycle change 8 revision 3 disentangled -> unbound silent
            11.400001s entanglement change 9 revision 3 T 0.000 R 0.000 odte 0.000, 0.0 of 10.0, nothing in the window
        "#]],
    );
}

#[test]
fn rule_1_2_events_of_one_update_are_numbered_by_name() {
    let definition = twin_type(
        "press",
        r#"{
            "properties": {"t": {"type": "double"}, "e": {"type": "double"}},
            "events": {"hot": {"type": "double"}, "alarm": {"type": "double"}},
            "functions": {"hot": {"threshold": {"of": "t", "above": 80}}},
            "streams": {"a": "1/s"}
        }"#,
    );
    check(
        definition,
        "
        at 1s update t=90 hot=1 alarm=2
        ",
        expect![[r#"
            1s         physical 1 device
            1s         state update 1 revision 1 changed [t] odte 1.00 bound
            1s         event update 1 revision 1 hot[0] 1
            1s         event update 1 revision 1 alarm[0] 2
            1s         event update 1 revision 1 hot[1] 90
            1s         lifecycle change 1 revision 1 unbound -> bound heard
            1s         entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
        "#]],
    );
}

#[test]
fn rule_2_4_ticks_that_are_due_run_before_an_update_with_their_nominal_time() {
    check(
        press(r#""sample": "2s""#),
        "
        at 0.5s quiet update t=1
        at 1s quiet update t=1
        at 8.25s update t=1
        at 8.5s tick
        at 10s tick
        ",
        expect![[r#"
            0.5s       lifecycle change 1 revision 1 unbound -> bound heard
            0.5s       entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            2s         entanglement change 3 revision 2 T 1.000 R 1.000 odte 1.000, 2.0 of 1.5, transport 0ms compute 0ms
            3.5s       lifecycle change 4 revision 2 bound -> disentangled stale
            3.5s       entanglement change 5 revision 2 T 1.000 R 0.667 odte 0.667, 2.0 of 3.0, transport 0ms compute 0ms
            8.25s      physical 3 device
            8.25s      state update 3 revision 3 changed [] odte 0.39 disentangled
            10s        entanglement change 6 revision 3 T 1.000 R 0.316 odte 0.316, 3.0 of 9.5, transport 0ms compute 0ms
        "#]],
    );
}

#[test]
fn rule_2_4_a_tick_and_an_update_of_one_instant_tick_first() {
    check(
        press(r#""sample": "2s", "settle": "2s""#),
        "
        at 0s quiet update t=1
        at 1s quiet update t=1
        at 2s update t=1
        ",
        expect![[r#"
            0s         lifecycle change 1 revision 1 unbound -> bound heard
            0s         entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            2s         lifecycle change 3 revision 2 bound -> entangled fresh
            2s         entanglement change 4 revision 2 T 1.000 R 1.000 odte 1.000, 2.0 of 2.0, transport 0ms compute 0ms
            2s         entanglement change 5 revision 2 T 1.000 R 1.000 odte 1.000, 2.0 of 2.0, transport 0ms compute 0ms
            2s         physical 3 device
            2s         state update 3 revision 3 changed [] odte 1.00 entangled
        "#]],
    );
}

#[test]
fn rule_3_3_a_rejected_time_counts_as_late_and_a_little_ahead_as_on_time() {
    check(
        press(r#""settle": "0s", "sample": "1s""#),
        "
        at 10s update t=1 late -4s
        at 10.1s update t=2 late -5s
        at 11s tick
        at 11.1s update t=3 late -5.1s
        at 11.2s update t=4 late -5.1s arrival
        at 12s tick
        ",
        expect![[r#"
            10s        physical 1 device
            10s        state update 1 revision 1 changed [t f] odte 1.00 entangled
            10s        lifecycle change 1 revision 1 unbound -> bound heard
            10s        entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport -4000ms compute 0ms
            10s        lifecycle change 3 revision 1 bound -> entangled fresh
            10s        entanglement change 4 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport -4000ms compute 0ms
            10.1s      physical 2 device
            10.1s      state update 2 revision 2 changed [t f] odte 1.00 entangled
            11s        entanglement change 5 revision 2 T 1.000 R 1.000 odte 1.000, 2.0 of 1.0, transport -4500ms compute 0ms
            11.1s      physical 3 rejected
            11.1s      state update 3 revision 3 changed [t f] odte 0.67 disentangled
            11.1s      lifecycle change 6 revision 3 entangled -> disentangled stale
            11.1s      entanglement change 7 revision 3 T 0.667 R 1.000 odte 0.667, 3.0 of 1.1, transport -4700ms compute 0ms
            11.2s      physical 4 arrival
            11.2s      state update 4 revision 4 changed [t f] odte 0.75 disentangled
            12s        entanglement change 8 revision 4 T 0.750 R 1.000 odte 0.750, 4.0 of 2.0, transport -4800ms compute 0ms
        "#]],
    );
}

#[test]
fn rule_4_1_lateness_is_transport_and_compute_together() {
    check(
        press(r#""settle": "0s", "sample": "1s""#),
        "
        at 10s quiet update t=1 late 600ms compute 400ms
        at 11s tick
        at 11.1s quiet update t=1 late 600ms compute 401ms
        at 12s tick
        ",
        expect![[r#"
            10s        lifecycle change 1 revision 1 unbound -> bound heard
            10s        entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 600ms compute 400ms
            10s        lifecycle change 3 revision 1 bound -> entangled fresh
            10s        entanglement change 4 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 600ms compute 400ms
            11s        entanglement change 5 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 600ms compute 400ms
            11.1s      lifecycle change 6 revision 2 entangled -> disentangled stale
            11.1s      entanglement change 7 revision 2 T 0.500 R 1.000 odte 0.500, 2.0 of 1.1, transport 600ms compute 400ms
            12s        entanglement change 8 revision 2 T 0.500 R 1.000 odte 0.500, 2.0 of 2.0, transport 600ms compute 400ms
        "#]],
    );
}

#[test]
fn rule_3_6_a_retained_message_initialises_and_is_no_observation() {
    check(
        press(""),
        "
        at 1s update t=1 late 2s retained
        at 2s update t=2 retained
        at 15s tick
        at 15s update t=3
        at 16s update t=4 retained
        at 20s tick
        ",
        expect![[r#"
            1s         physical 1 device unobserved
            1s         state update 1 revision 1 changed [t f] odte 0.00 unbound
            2s         physical 2 device unobserved
            2s         state update 2 revision 2 changed [t f] odte 0.00 unbound
            10s        entanglement change 1 revision 2 T 0.000 R 0.000 odte 0.000, 0.0 of 1.0, nothing in the window
            15s        physical 3 device
            15s        state update 3 revision 3 changed [t f] odte 1.00 bound
            15s        lifecycle change 2 revision 3 unbound -> bound heard
            15s        entanglement change 3 revision 3 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            16s        physical 4 device unobserved
            16s        state update 4 revision 4 changed [t f] odte 1.00 bound
            18s        lifecycle change 4 revision 4 bound -> disentangled stale
            18s        entanglement change 5 revision 4 T 1.000 R 0.333 odte 0.333, 1.0 of 3.0, transport 0ms compute 0ms
            20s        entanglement change 6 revision 4 T 1.000 R 0.200 odte 0.200, 1.0 of 5.0, transport 0ms compute 0ms
        "#]],
    );
}

#[test]
fn rule_4_8_a_silent_twin_decays_at_the_exact_instant_and_is_sampled_while_it_is_updated() {
    check(
        press(r#""unbind_after": "30s""#),
        "
        at 0.5s..24.5s every 1s quiet update t=1 late 20ms
        at 60s tick
        ",
        expect![[r#"
            0.5s       lifecycle change 1 revision 1 unbound -> bound heard
            0.5s       entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 20ms compute 0ms
            3.5s       lifecycle change 3 revision 3 bound -> entangled fresh
            3.5s       entanglement change 4 revision 3 T 1.000 R 1.000 odte 1.000, 3.0 of 3.0, transport 20ms compute 0ms
            10s        entanglement change 5 revision 10 T 1.000 R 1.000 odte 1.000, 10.0 of 9.5, transport 20ms compute 0ms
            20s        entanglement change 6 revision 20 T 1.000 R 1.000 odte 1.000, 10.0 of 10.0, transport 20ms compute 0ms
            27.500001s lifecycle change 7 revision 25 entangled -> disentangled stale
            27.500001s entanglement change 8 revision 25 T 1.000 R 0.700 odte 0.700, 7.0 of 10.0, transport 20ms compute 0ms
            30s        entanglement change 9 revision 25 T 1.000 R 0.500 odte 0.500, 5.0 of 10.0, transport 20ms compute 0ms
            54.500001s lifecycle change 10 revision 25 disentangled -> unbound silent
            54.500001s entanglement change 11 revision 25 T 0.000 R 0.000 odte 0.000, 0.0 of 10.0, nothing in the window
        "#]],
    );
}

#[test]
fn rules_5_1_to_5_4_a_full_life() {
    check(
        press(""),
        "
        at 100s quiet update t=1
        at 101s..105s every 1s quiet update t=1
        at 106s..112s every 1s quiet update t=1 late 2s
        at 113s..124s every 1s quiet update t=1
        at 200s tick
        at 200s quiet update t=1
        at 230s tick
        ",
        expect![[r#"
            100s       lifecycle change 1 revision 1 unbound -> bound heard
            100s       entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            103s       lifecycle change 3 revision 3 bound -> entangled fresh
            103s       entanglement change 4 revision 3 T 1.000 R 1.000 odte 1.000, 3.0 of 3.0, transport 0ms compute 0ms
            107s       lifecycle change 5 revision 7 entangled -> disentangled stale
            107s       entanglement change 6 revision 7 T 0.750 R 1.000 odte 0.750, 8.0 of 7.0, transport 500ms compute 0ms
            110s       entanglement change 7 revision 9 T 0.600 R 1.000 odte 0.600, 10.0 of 10.0, transport 800ms compute 0ms
            120s       entanglement change 8 revision 19 T 0.700 R 1.000 odte 0.700, 10.0 of 10.0, transport 600ms compute 0ms
            120.000001s lifecycle change 9 revision 20 disentangled -> entangled fresh
            120.000001s entanglement change 10 revision 20 T 0.800 R 1.000 odte 0.800, 10.0 of 10.0, transport 400ms compute 0ms
            127.000001s lifecycle change 11 revision 24 entangled -> disentangled stale
            127.000001s entanglement change 12 revision 24 T 1.000 R 0.700 odte 0.700, 7.0 of 10.0, transport 0ms compute 0ms
            130s       entanglement change 13 revision 24 T 1.000 R 0.500 odte 0.500, 5.0 of 10.0, transport 0ms compute 0ms
            134.000001s lifecycle change 14 revision 24 disentangled -> unbound silent
            134.000001s entanglement change 15 revision 24 T 0.000 R 0.000 odte 0.000, 0.0 of 10.0, nothing in the window
            200s       lifecycle change 16 revision 25 unbound -> bound heard
            200s       entanglement change 17 revision 25 T 1.000 R 0.100 odte 0.100, 1.0 of 10.0, transport 0ms compute 0ms
            203s       lifecycle change 18 revision 25 bound -> disentangled stale
            203s       entanglement change 19 revision 25 T 1.000 R 0.100 odte 0.100, 1.0 of 10.0, transport 0ms compute 0ms
            210s       entanglement change 20 revision 25 T 1.000 R 0.100 odte 0.100, 1.0 of 10.0, transport 0ms compute 0ms
            210.000001s lifecycle change 21 revision 25 disentangled -> unbound silent
            210.000001s entanglement change 22 revision 25 T 0.000 R 0.000 odte 0.000, 0.0 of 10.0, nothing in the window
        "#]],
    );
}

#[test]
fn rule_5_2_a_twin_that_is_late_from_birth_does_not_stay_bound() {
    check(
        press(""),
        "
        at 0s..5s every 1s quiet update t=1 late 3s
        ",
        expect![[r#"
            0s         lifecycle change 1 revision 1 unbound -> bound heard
            0s         entanglement change 2 revision 1 T 0.000 R 1.000 odte 0.000, 1.0 of 1.0, transport 3000ms compute 0ms
            3s         lifecycle change 3 revision 3 bound -> disentangled stale
            3s         entanglement change 4 revision 3 T 0.000 R 1.000 odte 0.000, 3.0 of 3.0, transport 3000ms compute 0ms
        "#]],
    );
}

#[test]
fn rule_5_3_hysteresis() {
    check(
        press(r#""threshold": 0.7, "hysteresis": 0.2, "settle": "0s", "sample": "60s""#),
        "
        at 0s..9.5s every 0.5s quiet update t=1
        at 10s..13.5s every 0.5s quiet update t=1 late 2s
        at 14s..30s every 0.5s quiet update t=1
        at 30s tick
        ",
        expect![[r#"
            0s         lifecycle change 1 revision 1 unbound -> bound heard
            0s         entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            0s         lifecycle change 3 revision 1 bound -> entangled fresh
            0s         entanglement change 4 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            13s        lifecycle change 5 revision 24 entangled -> disentangled stale
            13s        entanglement change 6 revision 24 T 0.667 R 1.000 odte 0.667, 21.0 of 10.0, transport 667ms compute 0ms
            22.500001s lifecycle change 7 revision 43 disentangled -> entangled fresh
            22.500001s entanglement change 8 revision 43 T 0.900 R 1.000 odte 0.900, 20.0 of 10.0, transport 200ms compute 0ms
        "#]],
    );
}

#[test]
fn rule_5_4_silence_unbinds_when_it_is_longer_and_5_4_binding_again_does_not_clear_the_window() {
    check(
        press(r#""unbind_after": "4s", "settle": "1s""#),
        "
        at 0s..5s every 1s quiet update t=1
        at 9s tick
        at 9.5s tick
        at 9.5s update t=1
        at 10.5s tick
        ",
        expect![[r#"
            0s         lifecycle change 1 revision 1 unbound -> bound heard
            0s         entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            1s         lifecycle change 3 revision 1 bound -> entangled fresh
            1s         entanglement change 4 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            7.500001s  lifecycle change 5 revision 6 entangled -> disentangled stale
            7.500001s  entanglement change 6 revision 6 T 1.000 R 0.800 odte 0.800, 6.0 of 7.5, transport 0ms compute 0ms
            9.000001s  lifecycle change 7 revision 6 disentangled -> unbound silent
            9.000001s  entanglement change 8 revision 6 T 1.000 R 0.667 odte 0.667, 6.0 of 9.0, transport 0ms compute 0ms
            9.5s       physical 7 device
            9.5s       state update 7 revision 7 changed [] odte 0.74 bound
            9.5s       lifecycle change 9 revision 7 unbound -> bound heard
            9.5s       entanglement change 10 revision 7 T 1.000 R 0.737 odte 0.737, 7.0 of 9.5, transport 0ms compute 0ms
            10s        entanglement change 11 revision 7 T 1.000 R 0.700 odte 0.700, 7.0 of 10.0, transport 0ms compute 0ms
            10.5s      lifecycle change 12 revision 7 bound -> disentangled stale
            10.5s      entanglement change 13 revision 7 T 1.000 R 0.600 odte 0.600, 6.0 of 10.0, transport 0ms compute 0ms
        "#]],
    );
}

#[test]
fn rule_5_4_a_lost_source_unbinds_and_5_5_the_event_refers_to_the_incident() {
    check(
        press(r#""settle": "1s""#),
        "
        at 0s..3s every 1s quiet update t=1
        at 3.5s lost 7
        at 3.6s update t=2 compute 200ms
        at 3.7s lost 8
        at 3.8s update t=3
        at 5s tick
        ",
        expect![[r#"
            0s         lifecycle change 1 revision 1 unbound -> bound heard
            0s         entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            1s         lifecycle change 3 revision 1 bound -> entangled fresh
            1s         entanglement change 4 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            3.5s       lifecycle change 5 revision 4 entangled -> unbound source_lost incident 7
            3.5s       entanglement change 6 revision 4 T 1.000 R 1.000 odte 1.000, 4.0 of 3.5, transport 0ms compute 0ms
            3.6s       physical 5 device
            3.6s       state update 5 revision 5 changed [t f] odte 1.00 unbound
            3.8s       physical 6 device
            3.8s       state update 6 revision 6 changed [t f] odte 1.00 bound
            3.8s       lifecycle change 7 revision 6 unbound -> bound heard
            3.8s       entanglement change 8 revision 6 T 1.000 R 1.000 odte 1.000, 6.0 of 3.8, transport 0ms compute 33ms
            4.8s       lifecycle change 9 revision 6 bound -> entangled fresh
            4.8s       entanglement change 10 revision 6 T 1.000 R 1.000 odte 1.000, 6.0 of 4.8, transport 0ms compute 33ms
        "#]],
    );
}

#[test]
fn rule_5_4_a_loss_of_the_past_is_stamped_no_earlier_than_the_twins_last_update() {
    check(
        press(r#""settle": "1s""#),
        "
        at 0s..3s every 1s quiet update t=1
        at 2.5s lost 7
        at 60s tick
        ",
        expect![[r#"
            0s         lifecycle change 1 revision 1 unbound -> bound heard
            0s         entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            1s         lifecycle change 3 revision 1 bound -> entangled fresh
            1s         entanglement change 4 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 1.0, transport 0ms compute 0ms
            3s         lifecycle change 5 revision 4 entangled -> unbound source_lost incident 7
            3s         entanglement change 6 revision 4 T 1.000 R 1.000 odte 1.000, 4.0 of 3.0, transport 0ms compute 0ms
            10s        entanglement change 7 revision 4 T 1.000 R 0.400 odte 0.400, 4.0 of 10.0, transport 0ms compute 0ms
        "#]],
    );
}

#[test]
fn rule_4_5_a_twin_with_only_unrated_streams_settles_at_once_and_is_never_unbound_by_silence() {
    check(
        press_with("", r#"{"a": "none"}"#),
        "
        at 0s update t=1
        at 100000s tick
        at 100000s update t=1 late 2s
        at 100005s update t=1
        at 200000s tick
        at 200000s lost 3
        ",
        expect![[r#"
            0s         physical 1 device
            0s         state update 1 revision 1 changed [t f] odte 1.00 entangled
            0s         lifecycle change 1 revision 1 unbound -> bound heard
            0s         entanglement change 2 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 0.0, transport 0ms compute 0ms
            0s         lifecycle change 3 revision 1 bound -> entangled fresh
            0s         entanglement change 4 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 0.0, transport 0ms compute 0ms
            10s        entanglement change 5 revision 1 T 1.000 R 1.000 odte 1.000, 1.0 of 0.0, transport 0ms compute 0ms
            100000s    physical 2 device
            100000s    state update 2 revision 2 changed [] odte 0.00 disentangled
            100000s    lifecycle change 6 revision 2 entangled -> disentangled stale
            100000s    entanglement change 7 revision 2 T 0.000 R 1.000 odte 0.000, 1.0 of 0.0, transport 2000ms compute 0ms
            100005s    physical 3 device
            100005s    state update 3 revision 3 changed [] odte 0.50 disentangled
            100010s    entanglement change 8 revision 3 T 0.500 R 1.000 odte 0.500, 2.0 of 0.0, transport 1000ms compute 0ms
            100010.000001s lifecycle change 9 revision 3 disentangled -> entangled fresh
            100010.000001s entanglement change 10 revision 3 T 1.000 R 1.000 odte 1.000, 1.0 of 0.0, transport 0ms compute 0ms
            200000s    lifecycle change 11 revision 3 entangled -> unbound source_lost incident 3
            200000s    entanglement change 12 revision 3 T 1.000 R 1.000 odte 1.000, 0.0 of 0.0, nothing in the window
        "#]],
    );
}

#[test]
fn rule_4_5_reliability_is_of_the_stream_that_is_missing() {
    check(
        press_with(r#""sample": "60s""#, r#"{"a": "1/s", "b": "1/s"}"#),
        "
        at 0.1s..20.1s every 1s quiet update t=1 stream 0
        at 20.2s..35.2s every 1s quiet update e=1 stream 1
        ",
        expect![[r#"
            0.1s       lifecycle change 1 revision 1 unbound -> bound heard
            0.1s       entanglement change 2 revision 1 T 1.000 R 0.000 odte 0.000, 1.0 of 1.0, transport 0ms compute 0ms
            3.1s       lifecycle change 3 revision 3 bound -> disentangled stale
            3.1s       entanglement change 4 revision 3 T 1.000 R 0.000 odte 0.000, 3.0 of 3.0, transport 0ms compute 0ms
        "#]],
    );
}

#[test]
fn rule_4_4_warm_up_full_judges_a_young_twin_by_the_whole_window() {
    check(
        press(r#""warm_up": "full", "sample": "60s""#),
        "
        at 0s..12s every 1s quiet update t=1
        ",
        expect![[r#"
            0s         lifecycle change 1 revision 1 unbound -> bound heard
            0s         entanglement change 2 revision 1 T 1.000 R 0.100 odte 0.100, 1.0 of 10.0, transport 0ms compute 0ms
            3s         lifecycle change 3 revision 3 bound -> disentangled stale
            3s         entanglement change 4 revision 3 T 1.000 R 0.300 odte 0.300, 3.0 of 10.0, transport 0ms compute 0ms
            7s         lifecycle change 5 revision 8 disentangled -> entangled fresh
            7s         entanglement change 6 revision 8 T 1.000 R 0.800 odte 0.800, 8.0 of 10.0, transport 0ms compute 0ms
        "#]],
    );
}

#[test]
fn rule_5_6_a_twin_that_is_done_is_ticked_no_more() {
    let definition = press("");
    let mut twin = Twin::new(0, &definition);
    let mut recorder = Recorder::default();
    apply("p", &mut twin, &definition, &Update::at(0, &[("t", 1.into())]), false, &mut recorder);
    recorder.lines.clear();
    assert!(twin.life_cycle.retire(1).is_some());
    tick("p", &mut twin, &definition, 9_999_999, &mut recorder);
    assert_eq!(recorder.lines, Vec::<String>::new());
    // The sample of the interval in which it was updated is still owed.
    tick("p", &mut twin, &definition, i64::MAX / 4, &mut recorder);
    assert_eq!(recorder.lines.len(), 1);
    assert_eq!(twin.handled.wake_us, NEVER_US);
}
