//! Modules of both interfaces, good ones and those that misbehave. Without the feature, what is said instead.

use super::*;

#[test]
fn settings_that_cannot_work_are_told() {
    for (json, expected) in [
        (r#"{}"#, None),
        (r#"{"fuel": 5000, "memory": "64KiB", "output_max": "10KB", "time": "20ms"}"#, None),
        (r#"{"fuel": 0}"#, Some("fuel")),
        (r#"{"time": "0s"}"#, Some("time")),
        (r#"{"memory": "1KB"}"#, Some("memory")),
        (r#"{"memory": "5GiB"}"#, Some("memory")),
        (r#"{"output_max": "0B"}"#, Some("output_max")),
    ] {
        let settings: WasmSettings = serde_json::from_str(json).expect("they are settings");
        let found = settings.check().err();
        match expected {
            None => assert_eq!(found, None, "{json}"),
            Some(word) => assert!(found.is_some_and(|reason| reason.starts_with(word)), "{json}"),
        }
    }
    assert!(serde_json::from_str::<WasmSettings>(r#"{"fule": 1}"#).is_err());
}

#[cfg(not(feature = "wasm"))]
#[test]
fn a_program_without_it_says_how_to_build_one() {
    let error = Module::compile(b"(module)", &WasmSettings::default()).expect_err("it is not there");
    assert!(error.to_string().contains("--features wasm"), "{error}");
}

#[cfg(feature = "wasm")]
mod with_modules;
