//! Streams whose `decode` is wrong, or does not go with the rest of them: what is said, and where.

use super::tests::{BASE, check};

#[test]
fn decoders() {
    let (from, at) = ("        properties: {t: /t}", "at: {pointer: /ts, format: unix_ms}");
    assert!(BASE.contains(at), "{at} is in the base");
    check(&[
        (from, "        decode: json\n        properties: {t: /t}", ""),
        (
            from,
            "        decode: xml\n        properties: {t: /t}",
            "15:17 unknown word `xml` (there are: csv, json, senml, sparkplug_b, value)",
        ),
        (
            from,
            "        decode: valu\n        properties: {t: /t}",
            "15:17 unknown word `valu` (did you mean `value`?)",
        ),
        (
            from,
            "        decode: sparkplug_b\n        properties: {t: /t}",
            "13:9 the topics of Sparkplug are known (leave `topics` out: the group says them)",
        ),
        (
            from,
            "        group: plant7\n        properties: {t: /t}",
            "15:16 `group` is of Sparkplug, and the stream has `decode: json` (leave `group` out, or write decode: sparkplug_b)",
        ),
        (
            from,
            "        decode: {json: {}}\n        properties: {t: /t}",
            "15:9 `json` has no settings (write decode: json)",
        ),
        (
            from,
            "        decode: [json]\n        properties: {t: /t}",
            "15:9 a list is not one of: json, senml, csv, value, sparkplug_b (write one of: json, senml, csv, value, sparkplug_b)",
        ),
        (
            from,
            "        decode: value\n        properties: {t: \"\"}",
            "14:9 a bare value carries no device time (write at: arrival)",
        ),
        (
            from,
            "        decode: {csv: {columns: [ts, tmp]}}\n        properties: {t: /temp}",
            "16:25 there is no column `temp` (did you mean `tmp`?)",
        ),
        (
            from,
            "        decode: {csv: {columns: [ts, t], separator: ab}}\n        properties: {t: /t}",
            "15:53 `ab` cannot separate fields (write one ASCII character that is no letter, digit or quote, such as \";\" or \"\\t\")",
        ),
        (
            from,
            "        decode: {csv: {column: [ts, t]}}\n        properties: {t: /t}",
            "15:24 unknown key `column` (did you mean `columns`?)",
        ),
        (
            from,
            "        decode: senml\n        properties: {t: /t}",
            "14:9 records of SenML say their times themselves (leave `at` out, or write at: arrival where the devices' clocks are not to be used)",
        ),
        (at, "decode: senml", ""),
        (
            at,
            "decode: value\n        at: arrival",
            "16:25 `/t` points into a payload that is one bare value (write \"\", the whole payload, or leave `decode: value` out if the payload is JSON)",
        ),
        (
            at,
            "decode: json",
            "11:7 `at` is missing (add `at: arrival`, or `at: {pointer: /timestamp, format: unix_ms}`)",
        ),
    ]);
}
