//! Tables for the sub-rules of rule 4.

use expect_test::{Expect, expect};

use super::*;

fn terms(json: &str, rates: &[&str]) -> Terms {
    let settings: EntanglementSettings = serde_json::from_str(json).expect("well formed");
    let rates: Vec<_> = rates
        .iter()
        .map(|rate| {
            ExpectedRate::parse(rate).expect("a rate").resolve(&Default::default()).expect("it is one")
        })
        .collect();
    Terms::compile(&settings, &rates).expect("the settings are good")
}

fn seconds(text: &str) -> i64 {
    let text = text.trim_end_matches('s');
    (text.parse::<f64>().expect("a time in seconds") * 1e6).round() as i64
}

/// Lines `at FROM..TO every STEP late LATENESS [stream N]` and `read AT`, in seconds; the first
/// observation binds. Answers a line for each read.
fn check(terms: Terms, lines: &str, expected: Expect) {
    let mut entanglement = Entanglement::default();
    let mut found = String::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words[0] == "read" {
            let at_us = seconds(words[1]);
            let measure = entanglement.measure(at_us, &terms);
            found += &format!(
                "{:<5} T {:.2}  R {:.2}  A {:.2}  odte {:.2}  {} of {:.1}",
                words[1],
                measure.timeliness,
                measure.reliability,
                measure.availability,
                measure.odte,
                measure.received,
                measure.expected
            );
            if measure.reliability_unclamped > 1.0 {
                found += &format!("  unclamped {:.2}", measure.reliability_unclamped);
            }
            found += "\n";
            continue;
        }
        let (from, to) = words[1].split_once("..").unwrap_or((words[1], words[1]));
        let value = |key: &str| {
            let index = words.iter().position(|word| *word == key)?;
            Some(words[index + 1])
        };
        let step = value("every").map_or(1, seconds);
        let late_us = seconds(value("late").expect("a lateness"));
        let mut at_us = seconds(from);
        while at_us <= seconds(to) {
            entanglement.bind(at_us);
            let observation = Observation {
                at_us,
                transport_us: late_us,
                compute_us: 0,
                on_time: late_us <= terms.desired_timeliness_us,
                stream: value("stream").map_or(0, |stream| stream.parse().expect("a number")),
            };
            entanglement.observe(observation, &terms);
            at_us += step;
        }
    }
    expected.assert_eq(&found);
}

const TEN_SECONDS: &str = r#"{"window": "10s", "desired_timeliness": "1s"}"#;

#[test]
fn rule_4_8_a_silent_twin_decays() {
    check(
        terms(TEN_SECONDS, &["1/s"]),
        "
        at 0s..9s every 1s late 0.02s
        read 9s
        read 14s
        read 25s
        ",
        expect![[r#"
            9s    T 1.00  R 1.00  A 1.00  odte 1.00  10 of 9.0  unclamped 1.11
            14s   T 1.00  R 0.60  A 1.00  odte 0.60  6 of 10.0
            25s   T 0.00  R 0.00  A 1.00  odte 0.00  0 of 10.0
        "#]],
    );
}

#[test]
fn rule_4_the_window_is_closed_at_both_ends() {
    check(
        terms(TEN_SECONDS, &["1/s"]),
        "
        at 0s late 0s
        read 10s
        read 10.000001s
        ",
        expect![[r#"
            10s   T 1.00  R 0.10  A 1.00  odte 0.10  1 of 10.0
            10.000001s T 0.00  R 0.00  A 1.00  odte 0.00  0 of 10.0
        "#]],
    );
}

#[test]
fn rule_4_2_timeliness_is_the_share_on_time() {
    check(
        terms(TEN_SECONDS, &["1/s"]),
        "
        at 0s..3s every 1s late 1s
        at 4s..9s every 1s late 1.000001s
        read 9s
        ",
        expect![[r#"
            9s    T 0.40  R 1.00  A 1.00  odte 0.40  10 of 9.0  unclamped 1.11
        "#]],
    );
}

#[test]
fn rule_4_4_a_young_twin_is_expected_from_its_binding_on() {
    check(
        terms(TEN_SECONDS, &["0.5/s"]),
        "
        at 100s late 0s
        read 100s
        read 101s
        read 104s
        at 104s..108s every 2s late 0s
        read 108s
        ",
        expect![[r#"
             100s  T 1.00  R 1.00  A 1.00  odte 1.00  1 of 1.0
             101s  T 1.00  R 1.00  A 1.00  odte 1.00  1 of 1.0
             104s  T 1.00  R 0.50  A 1.00  odte 0.50  1 of 2.0
             108s  T 1.00  R 1.00  A 1.00  odte 1.00  4 of 4.0
        "#]],
    );
}

#[test]
fn rule_4_4_warm_up_full_expects_a_whole_window() {
    let json = r#"{"window": "10s", "desired_timeliness": "1s", "warm_up": "full"}"#;
    check(
        terms(json, &["1/s"]),
        "
        at 100s..104s every 1s late 0s
        read 104s
        ",
        expect![[r#"
             104s  T 1.00  R 0.50  A 1.00  odte 0.50  5 of 10.0
        "#]],
    );
}

#[test]
fn rule_4_5_reliability_is_the_least_over_the_streams() {
    check(
        terms(TEN_SECONDS, &["1/s", "0.5/s", "none"]),
        "
        at 0s..9s every 1s late 0s stream 0
        at 9s late 0s stream 1
        at 9s late 0s stream 1
        at 9s late 0s stream 2
        read 10s
        ",
        expect![[r#"
            10s   T 1.00  R 0.40  A 1.00  odte 0.40  13 of 5.0
        "#]],
    );
}

#[test]
fn rule_4_2_and_4_5_without_expectation_the_last_verdict_stays() {
    check(
        terms(TEN_SECONDS, &["none"]),
        "
        at 0s late 5s
        at 1s late 0s
        read 5s
        read 100s
        at 101s late 2s
        read 200s
        ",
        expect![[r#"
            5s    T 0.50  R 1.00  A 1.00  odte 0.50  2 of 0.0
            100s  T 1.00  R 1.00  A 1.00  odte 1.00  0 of 0.0
            200s  T 0.00  R 1.00  A 1.00  odte 0.00  0 of 0.0
        "#]],
    );
}

#[test]
fn rule_4_7_beyond_64_observations_the_partly_expired_sub_window_counts_pro_rata() {
    // 64 s are 64 sub-windows of 1 s, with 10 observations in each.
    let json = r#"{"window": "64s", "desired_timeliness": "1s"}"#;
    check(
        terms(json, &["10/s"]),
        "
        at 0s..99.9s every 0.1s late 0s
        read 99.9s
        read 100.0s
        read 100.5s
        read 101.0s
        read 131.0s
        read 165.0s
        at 165s late 0s
        read 165s
        ",
        expect![[r#"
            99.9s T 1.00  R 1.00  A 1.00  odte 1.00  641 of 640.0  unclamped 1.00
            100.0s T 1.00  R 1.00  A 1.00  odte 1.00  640 of 640.0
            100.5s T 1.00  R 0.99  A 1.00  odte 0.99  635 of 640.0
            101.0s T 1.00  R 0.98  A 1.00  odte 0.98  630 of 640.0
            131.0s T 1.00  R 0.52  A 1.00  odte 0.52  330 of 640.0
            165.0s T 0.00  R 0.00  A 1.00  odte 0.00  0 of 640.0
            165s  T 1.00  R 0.00  A 1.00  odte 0.00  1 of 640.0
        "#]],
    );
}

#[test]
fn rule_3_5_the_clock_offset_is_the_windows_least() {
    let terms = terms(TEN_SECONDS, &["1/s"]);
    let mut entanglement = Entanglement::default();
    let lateness = |entanglement: &Entanglement, at_us| {
        entanglement
            .lateness(at_us, &terms)
            .map(|lateness| (lateness.transport_us, lateness.compute_us, lateness.transport_min_us))
    };
    assert_eq!(lateness(&entanglement, 0), None);
    for (at_us, transport_us, compute_us) in [(0, 30_000, 1), (4_000_000, -10_000, 2), (9_000_000, 40_000, 6)]
    {
        let observation = Observation { at_us, transport_us, compute_us, on_time: true, stream: 0 };
        entanglement.observe(observation, &terms);
    }
    assert_eq!(lateness(&entanglement, 9_000_000), Some((20_000.0, 3.0, -10_000.0)));
    assert_eq!(lateness(&entanglement, 15_000_000), Some((40_000.0, 6.0, 40_000.0)));
}

/// The next crossing, in seconds, after observations at whole seconds.
fn crossing(terms: &Terms, at: &[i64], late: &[i64], from: f64, is_above: bool) -> Option<f64> {
    let mut entanglement = Entanglement::default();
    for second in at {
        let at_us = second * 1_000_000;
        entanglement.bind(at_us);
        let on_time = !late.contains(second);
        let observation = Observation { at_us, transport_us: 0, compute_us: 0, on_time, stream: 0 };
        entanglement.observe(observation, terms);
    }
    let at_us = (from * 1e6) as i64;
    let crossing = entanglement.next_crossing(at_us, terms, terms.threshold, is_above);
    crossing.map(|at_us| at_us as f64 / 1e6)
}

#[test]
fn rule_4_8_the_next_crossing_is_known_in_advance() {
    let json = r#"{"window": "10s", "desired_timeliness": "1s", "threshold": 0.8}"#;
    let terms = terms(json, &["1/s"]);
    let steady: Vec<i64> = (0..=20).collect();
    // 11 in the window at 20 s; below 8 of 10 when the fourth has left, at 13 + 10 s.
    assert_eq!(crossing(&terms, &steady, &[], 20.0, true), Some(23.000_001));
    // A young twin: 3 of an expectation that grows until 3 / U < 0.8, just after 3.75 s.
    assert_eq!(crossing(&terms, &[0, 1, 2], &[], 2.0, true), Some(3.750_001));
    // Late ones that leave make it better: 3 of 11 are late; when two of them have left, 1 of 9 is.
    assert_eq!(crossing(&terms, &steady, &[10, 11, 20], 20.0, false), Some(20.000_001));
    // Nothing left to cross.
    assert_eq!(crossing(&terms, &[0], &[], 50.0, false), None);
}

#[test]
fn rule_4_8_a_peak_within_a_sub_window_is_seen() {
    // 64 sub-windows of 1 s: 12 observations in the first, every second one late, and 58 after it.
    let json = r#"{"window": "64s", "desired_timeliness": "1s", "threshold": 0.93}"#;
    let terms = terms(json, &["1/s"]);
    let mut entanglement = Entanglement::default();
    entanglement.bind(0);
    let early = (0..12).map(|number| (number * 80_000, number % 2 == 0));
    let later = (0..58).map(|number| (1_000_000 + number * 1_000_000, true));
    for (at_us, on_time) in early.chain(later) {
        let observation = Observation { at_us, transport_us: 0, compute_us: 0, on_time, stream: 0 };
        entanglement.observe(observation, &terms);
    }
    let odte = |at_us| entanglement.measure(at_us, &terms).odte;
    let shown = [64_000_000, 64_500_000, 65_000_000].map(|at_us| (odte(at_us) * 1e3).round() / 1e3);
    assert_eq!(shown, [0.914, 0.953, 0.906]);
    let up_us = entanglement.next_crossing(64_000_000, &terms, 0.93, false).expect("it rises");
    assert_eq!((odte(up_us - 2) < 0.93, odte(up_us + 2) >= 0.93), (true, true));
    let down_us = entanglement.next_crossing(up_us, &terms, 0.93, true).expect("it falls");
    assert!(up_us < down_us && down_us < 65_000_000, "{up_us} {down_us}");
}
