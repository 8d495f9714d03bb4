//! Property tests. Method: chance makes two jobs, each with some of the same properties, words, functions
//! and streams in some order, and a twin of the first that was updated for a while. What must be left of
//! it under the second, and under the first again, is told from names alone.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::handler::tick;

const KINDS: [(&str, &str); 7] = [
    ("d", r#"{"type": "double"}"#),
    ("i", r#"{"type": "integer"}"#),
    ("flag", r#"{"type": "boolean"}"#),
    ("text", r#"{"type": "string"}"#),
    ("word", r#"{"type": "enum", "values": [WORDS]}"#),
    ("list", r#"{"type": "array", "items": "integer"}"#),
    ("object", r#"{"type": "object"}"#),
];
const WORDS: [&str; 5] = ["idle", "run", "fault", "off", "set-up"];
const STREAMS: [&str; 4] = ["a", "b", "c", "e"];

fn any_type() -> impl Strategy<Value = TwinType> {
    let properties = subsequence(KINDS.to_vec(), 0..=KINDS.len()).prop_shuffle();
    let words = subsequence(WORDS.to_vec(), 1..=WORDS.len()).prop_shuffle();
    let streams = subsequence(STREAMS.to_vec(), 1..=STREAMS.len()).prop_shuffle();
    let windows = (select(vec!["1s", "10s", "1m", "24h"]), select(vec!["5s", "30s"]));
    (properties, words, streams, windows).prop_map(|(properties, words, streams, (window, mean))| {
        let words = words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let properties = properties.iter().map(|(name, kind)| format!("\"{name}\": {kind},"));
        let properties = properties.collect::<String>().replace("WORDS", &words);
        let streams: Vec<String> = streams.iter().map(|name| format!("\"{name}\": \"none\"")).collect();
        twin_type(
            "any",
            &format!(
                r#"{{
                    "properties": {{{properties} "t": {{"type": "double"}}, "m": {{"type": "double"}}}},
                    "functions": {{"m": {{"mean": {{"of": "t", "window": "{mean}"}}}}}},
                    "entanglement": {{"window": "{window}"}},
                    "streams": {{{}}}
                }}"#,
                streams.join(", ")
            ),
        )
    })
}

/// A value of a property.
fn value(definition: &TwinType, property: usize, number: i64) -> Json {
    match &definition.model.properties[property].kind {
        Kind::Double => json!(number as f64 / 4.0),
        Kind::Integer => json!(number),
        Kind::Boolean => json!(number % 2 == 0),
        Kind::String => json!(format!("text {number}")),
        Kind::Enum(words) => json!(words[number as usize % words.len()]),
        Kind::Array { .. } => json!([number, 1]),
        Kind::Object => json!({ "n": number }),
    }
}

fn update(twin: &mut Twin, definition: &TwinType, at_us: i64, number: i64) {
    // The last property is computed.
    let properties = definition.model.properties.len() - 1;
    let property = number as usize % properties;
    let name = definition.model.properties[property].name.as_str();
    let one = Update::at(at_us, &[(name, value(definition, property, number))]);
    let stream = (number as usize % definition.streams.len()) as u16;
    let one = Update { stream, physical_us: at_us - number % 3 * 900_000, ..one };
    apply("p", twin, definition, &one, false, &mut Recorder::default());
}

fn restored(twin: &Twin, before: &TwinType, now: &TwinType) -> Twin {
    let (layout, types) = (Layout::of(std::slice::from_ref(before)), [now.clone()]);
    let text = serde_json::to_string(&layout).expect("a layout is JSON");
    let layout: Layout = serde_json::from_str(&text).expect("it was written");
    let (adaptation, _) = Adaptation::new(&layout, &types).expect("no kind has changed");
    let mut bytes = Vec::new();
    twin.write(&mut bytes);
    let restored = adaptation.restore(&bytes).expect("it is a good record");
    Layout::of(&types).check(&restored).expect("it is one of its type now");
    restored
}

/// What is kept whatever changes.
fn kept(twin: &Twin) -> impl PartialEq + std::fmt::Debug {
    let handled = twin.handled;
    (twin.shadow.update(), handled.revision, handled.change, handled.digital_at, twin.life_cycle)
}

fn has_word(definition: &TwinType, word: &Json) -> bool {
    let mut kinds = definition.model.properties.iter().map(|property| &property.kind);
    kinds.any(|kind| matches!(kind, Kind::Enum(words) if words.iter().any(|one| word == one)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_both_jobs_have_is_kept(
        (a, b) in (any_type(), any_type()),
        gaps in prop::collection::vec(prop_oneof![5 => 0i64..300_000, 1 => 0i64..20_000_000], 0..160),
    ) {
        let mut twin = Twin::new(0, &a);
        let mut at_us = 1_700_000_000_000_000;
        for (number, gap_us) in (0..).zip(&gaps) {
            at_us += gap_us;
            update(&mut twin, &a, at_us, number);
        }

        let same = restored(&twin, &a, &a);
        let bytes = |twin: &Twin| {
            let mut twin = twin.clone();
            twin.handled.wake_us = 0;
            let mut bytes = Vec::new();
            twin.write(&mut bytes);
            bytes
        };
        prop_assert_eq!(bytes(&same), bytes(&twin), "the same job changes nothing");

        let there = restored(&twin, &a, &b);
        let back = restored(&there, &b, &a);
        prop_assert_eq!(kept(&there), kept(&twin));
        prop_assert_eq!(kept(&back), kept(&twin));
        let has = |name: &str| b.model.properties.iter().any(|property| property.name == name);
        let mut expected = values(&twin, &a);
        expected.retain(|(name, value)| has(name) && (name != "word" || has_word(&b, value)));
        prop_assert_eq!(values(&back, &a), expected.clone());
        expected.sort_by_key(|(name, _)| b.model.property(name));
        prop_assert_eq!(values(&there, &b), expected);

        let measured = |twin: &Twin, of: &TwinType| twin.entanglement.measure(at_us, &of.terms);
        let (first, second, third) = (measured(&twin, &a), measured(&there, &b), measured(&back, &a));
        prop_assert!(third.received <= first.received + 1e-9);
        if a.terms.window_us == b.terms.window_us {
            for measure in [second, third] {
                prop_assert!((measure.received - first.received).abs() < 1e-9);
                prop_assert!((measure.on_time - first.on_time).abs() < 1e-9);
            }
        }

        // The changed job goes on, and what it then has is restored again.
        let mut twin = there;
        for number in 0..70 {
            update(&mut twin, &b, at_us + number * 100_000, number);
        }
        tick("p", &mut twin, &b, at_us + 100 * SECOND_US, &mut Recorder::default());
        restored(&twin, &b, &a);
    }
}
