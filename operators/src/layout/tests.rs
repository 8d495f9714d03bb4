//! The layout as it stands in a manifest, and twins that do not fit theirs.

use expect_test::expect;
use serde_json::json;

use super::*;
use crate::fixture::{Update, apply, twin_type};
use crate::handler::tests::Recorder;
use crate::life_cycle::LifeCycle;
use crate::shadowing::Shadow;

fn press() -> TwinType {
    twin_type(
        "press",
        r#"{
            "properties": {
                "t": {"type": "double"}, "mode": {"type": "enum", "values": ["idle", "run"]},
                "on": {"type": "boolean"}, "name": {"type": "string"}, "o": {"type": "object"},
                "v": {"type": "array", "items": "integer"}, "f": {"type": "double"}, "e": {"type": "double"}
            },
            "events": {"far": {"type": "double"}, "cold": {"type": "double"}},
            "functions": {
                "f": {"linear": {"of": "t", "factor": 1.8}}, "e": {"ewma": {"of": "t", "half_life": "1500us"}},
                "far": {"outlier": {"of": "t", "window": "1m"}}, "cold": {"threshold": {"of": "t", "below": 0.1}}
            },
            "entanglement": {"window": "10s"},
            "streams": {"a": "1/s", "b": "none"}
        }"#,
    )
}

/// A manifest is read for ever: this text must not change its meaning.
#[test]
fn rule_7_7_the_golden_layout() {
    let layout = Layout::of(&[press()]);
    let text = serde_json::to_string_pretty(&layout).expect("a layout is JSON");
    expect![[r#"
        {
          "records": 4,
          "types": [
            {
              "name": "press",
              "properties": [
                {
                  "name": "t",
                  "type": "double"
                },
                {
                  "name": "mode",
                  "type": "enum",
                  "values": [
                    "idle",
                    "run"
                  ]
                },
                {
                  "name": "on",
                  "type": "boolean"
                },
                {
                  "name": "name",
                  "type": "string"
                },
                {
                  "name": "o",
                  "type": "object"
                },
                {
                  "name": "v",
                  "type": "array",
                  "items": "integer"
                },
                {
                  "name": "f",
                  "type": "double"
                },
                {
                  "name": "e",
                  "type": "double"
                }
              ],
              "events": [
                "far",
                "cold"
              ],
              "functions": [
                {
                  "target": "f",
                  "kind": "linear",
                  "of": "t"
                },
                {
                  "target": "e",
                  "kind": "ewma",
                  "of": "t",
                  "memory": "average",
                  "settings": {
                    "half_life_us": 1500.0
                  }
                },
                {
                  "target": "far",
                  "kind": "outlier",
                  "of": "t",
                  "memory": "samples",
                  "settings": {
                    "samples_max": 256.0,
                    "window_us": 60000000.0
                  }
                },
                {
                  "target": "cold",
                  "kind": "threshold",
                  "of": "t",
                  "memory": "raised",
                  "settings": {
                    "below": 0.1
                  }
                }
              ],
              "streams": [
                "a",
                "b"
              ],
              "window_us": 10000000
            }
          ]
        }"#]]
    .assert_eq(&text);
    assert_eq!(serde_json::from_str::<Layout>(&text).expect("it was written"), layout);
    // Of a newer version, which may mean what this one does not know.
    let newer = text.replace("\"streams\"", "\"models\"");
    serde_json::from_str::<Layout>(&newer).expect_err("an unknown key is refused");
}

#[test]
fn a_twin_that_does_not_fit_is_refused() {
    let definition = press();
    let layout = Layout::of(std::slice::from_ref(&definition));
    let mut good = Twin::new(0, &definition);
    let values = [("t", json!(1)), ("mode", json!("run")), ("on", json!(true)), ("name", json!("p"))];
    apply("p", &mut good, &definition, &Update::at(7_000_000, &values), false, &mut Recorder::default());
    assert_eq!(layout.check(&good), Ok(()));

    // The same values in a type where they mean something else.
    let swapped = |from: &str, to: &str| {
        let mut layout = layout.clone();
        let kind = |name: &str| layout.types[0].properties.iter().position(|one| one.name == name);
        let (from, to) = (kind(from).expect("it is there"), kind(to).expect("it is there"));
        layout.types[0].properties.swap(from, to);
        layout
    };
    let mut one_word = layout.clone();
    one_word.types[0].properties[1].values.pop();
    for (layout, expected) in [
        (one_word, "a word is not in its enum"),
        (swapped("t", "on"), "a boolean is neither true nor false"),
        (swapped("t", "name"), "a text is not there, or of two properties"),
        (swapped("name", "f"), "a text is not there, or of two properties"),
        (Layout::default(), "its type is not in the job"),
    ] {
        assert_eq!(layout.check(&good), Err(SnapshotError::Contradiction(expected)));
    }

    type Damage = fn(&mut Twin);
    let cases: [(Damage, &str); 6] = [
        (|twin| twin.twin_type = 1, "its type is not in the job"),
        (
            |twin| twin.shadow = Shadow::new(&press().model),
            "it has more revisions than its updates can have made",
        ),
        (|twin| twin.entanglement = Default::default(), "it is bound, and never was"),
        (|twin| twin.handled.digital_at.0 = i64::MIN, "an observation is newer than its twin"),
        (|twin| twin.handled.digital_at.0 = i64::MAX, "it was updated at no time"),
        (
            |twin| {
                twin.life_cycle = LifeCycle::default();
                twin.life_cycle.heard(i64::MAX, crate::life_cycle::Reason::Heard);
            },
            "its life went on at no time",
        ),
    ];
    for (damage, expected) in cases {
        let mut twin = good.clone();
        damage(&mut twin);
        assert_eq!(layout.check(&twin), Err(SnapshotError::Contradiction(expected)));
    }
}
