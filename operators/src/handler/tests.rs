//! Tables for what a twin announces: a script of updates, ticks and losses in, a line for each
//! digital event out. Each case is named by its rule.

mod life;
mod updates;

use expect_test::{Expect, expect};
use serde_json::Value as Json;

use super::*;
use crate::batch::ClaimedTime;
use crate::fixture::{Update, apply, twin_type};

/// A line for each digital event. Shared with the property tests of wakes.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) lines: Vec<String>,
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
        let Measure { timeliness, reliability, availability, odte, received, expected, .. } =
            entangled.measure;
        let availability = if availability < 1.0 { format!(" A {availability:.3}") } else { String::new() };
        let lateness = entangled.lateness.map_or("nothing in the window".to_owned(), |lateness| {
            format!(
                "transport {:.0}ms compute {:.0}ms",
                lateness.transport_us / 1e3,
                lateness.compute_us / 1e3
            )
        });
        let what = format!(
            "entanglement change {} revision {} T {timeliness:.3} R {reliability:.3}{availability} odte {odte:.3}, \
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
    let threshold = if entanglement.contains("threshold") { "" } else { r#""threshold": 0.8,"# };
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
                    "window": "10s", {threshold} "desired_timeliness": "1s"{comma} {entanglement}
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
/// at 12s up                                presence says so; `down` as well
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
                    presence: [("up", true), ("down", false)]
                        .iter()
                        .find(|(word, _)| has(word))
                        .map(|(_, up)| *up),
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
