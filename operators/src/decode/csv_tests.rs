//! Lines of CSV, good and bad, and what is said of streams that name their columns wrong.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::tests::{check, count, decoder, problem_of};
use super::{Decoder, ELEMENTS_MAX};

/// A stream with a column of each kind, with these settings of `csv`.
fn lines(settings: &str) -> Decoder {
    decoder(&format!(
        r#"[{{"from": "plant", "topics": ["t/{{twin}}"], "expected_rate": "none",
             "decode": {{"csv": {{"columns": ["ts", "temperature", "mode", "name"] {settings}}}}},
             "at": {{"pointer": "/ts", "format": "unix_s"}},
             "properties": {{"temperature": "/temperature", "mode": "/mode", "name": "/name"}}}}]"#
    ))
}

fn table(cases: Vec<(&[u8], Expect)>, decoder: impl Fn() -> Decoder) {
    for (payload, expected) in cases {
        check(decoder(), "t/p", payload, expected);
    }
}

#[test]
fn good_lines() {
    let cases: Vec<(&[u8], Expect)> = vec![
        (
            b"1,24.28,run,x",
            expect![[
                r#"p stream 0 at 1000000 Device: [(0, Double(24.28)), (5, Enum(1)), (4, Text("x"))] []"#
            ]],
        ),
        (
            b" 1.5 , 24 , run , x \r\n",
            expect![[
                r#"p stream 0 at 1500000 Device: [(0, Double(24.0)), (5, Enum(1)), (4, Text(" x "))] []"#
            ]],
        ),
        (
            b"\xef\xbb\xbf1,24.28,run,x\n",
            expect![[
                r#"p stream 0 at 1000000 Device: [(0, Double(24.28)), (5, Enum(1)), (4, Text("x"))] []"#
            ]],
        ),
        (
            b"1,,,\"a \"\"quoted\"\" name, of\ntwo lines\"\r\n2,3,idle,",
            expect![[r#"
            p stream 0 at 1000000 Device: [(4, Text("a \"quoted\" name, of\ntwo lines"))] []
            p stream 0 at 2000000 Device: [(0, Double(3.0)), (5, Enum(0))] []"#]],
        ),
        (
            b"\n\n1,2,,\r\n\r\n2,3,,\n\n",
            expect![[r#"
            p stream 0 at 1000000 Device: [(0, Double(2.0))] []
            p stream 0 at 2000000 Device: [(0, Double(3.0))] []"#]],
        ),
        (
            b"1,2,,\r2,3,,\r",
            expect![[r#"
            p stream 0 at 1000000 Device: [(0, Double(2.0))] []
            p stream 0 at 2000000 Device: [(0, Double(3.0))] []"#]],
        ),
    ];
    table(cases, || lines(""));
    check(
        lines(r#", "separator": ";""#),
        "t/p",
        b"1;2;run;a,b",
        expect![[r#"p stream 0 at 1000000 Device: [(0, Double(2.0)), (5, Enum(1)), (4, Text("a,b"))] []"#]],
    );
    check(
        lines(r#", "separator": "\t""#),
        "t/p",
        b"1\t2\trun\t",
        expect!["p stream 0 at 1000000 Device: [(0, Double(2.0)), (5, Enum(1))] []"],
    );
}

#[test]
fn bad_lines() {
    let cases: Vec<(&[u8], Expect)> = vec![
        (
            b"1,2,run,x\n1,much,run,x\n3,4,idle,x",
            expect![[r#"
            p stream 0 at 1000000 Device: [(0, Double(2.0)), (5, Enum(1)), (4, Text("x"))] []
            p stream 0 at 3000000 Device: [(0, Double(4.0)), (5, Enum(0)), (4, Text("x"))] []
            dead: `/temperature`: "much" is no double <- 1,much,run,x"#]],
        ),
        (b"noon,2,run,x", expect!["dead: `/ts`: the device time cannot be read <- noon,2,run,x"]),
        (b",2,run,x", expect!["dead: the device time is missing <- ,2,run,x"]),
        (b"1,,,", expect!["dead: none of the mapped values is there <- 1,,,"]),
        (b"1,2,walk,x", expect![[r#"dead: `/mode`: "walk" is no value of its enum <- 1,2,walk,x"#]]),
        (
            b"1,1001,run,x",
            expect!["dead: `/temperature`: 1001 is outside the range [-100, 1000] <- 1,1001,run,x"],
        ),
        (b"1,NaN,run,x", expect![[r#"dead: `/temperature`: "NaN" is no double <- 1,NaN,run,x"#]]),
        (
            b"1,24,28,run,x",
            expect!["dead: the line has 5 fields, and the stream names 4 columns <- 1,24,28,run,x"],
        ),
        (b"1,2", expect!["dead: the line has 2 fields, and the stream names 4 columns <- 1,2"]),
        (
            b"{\"ts\":1}",
            expect![[r#"dead: the line has 1 field, and the stream names 4 columns <- {"ts":1}"#]],
        ),
        (
            b"1,2,run,\"x",
            expect![[
                r#"dead: a quote is not closed, or stands inside of a field that is not quoted <- 1,2,run,"x"#
            ]],
        ),
        (
            b"1,2,run,5\" pipe",
            expect![[
                r#"dead: a quote is not closed, or stands inside of a field that is not quoted <- 1,2,run,5" pipe"#
            ]],
        ),
        (
            b"1,2,run,\xff\n2,3,run,x",
            expect![[r#"
            p stream 0 at 2000000 Device: [(0, Double(3.0)), (5, Enum(1)), (4, Text("x"))] []
            dead: `/name`: the field is not UTF-8 <- 1,2,run,�"#]],
        ),
    ];
    table(cases, || lines(""));
    // Where there is no line, the message is a dead letter, also one of nothing but a byte order mark.
    for payload in [&b"\r\n"[..], b"\xef\xbb\xbf"] {
        assert_eq!(count(&mut lines(""), payload), (0, 1), "{payload:?}");
    }
}

/// Columns by number, the twin and a flag among them.
fn numbered() -> Decoder {
    decoder(
        r#"[{"from": "plant", "topics": ["t"], "decode": "csv", "twin": "/0", "historical": "/3",
             "at": "arrival", "expected_rate": "none", "events": {"door": "/2"},
             "properties": {"count": "/1", "on": {"pointer": "/2", "map": {"open": true, "shut": false}}}}]"#,
    )
}

#[test]
fn columns_by_number() {
    let cases: Vec<(&[u8], Expect)> = vec![
        (
            b"a,1,open,true\nb, -2,shut",
            expect![[r#"
            a stream 0 at 5000000 Arrival not live: [(2, Integer(1)), (3, Boolean(true))] [(0, "\"open\"")]
            b stream 0 at 5000000 Arrival: [(2, Integer(-2)), (3, Boolean(false))] [(0, "\"shut\"")]"#]],
        ),
        (
            b"a,1,ajar\n,1\nc,1,,old\nd",
            expect![[r#"
            dead: `/2`: `ajar` is not in the map <- a,1,ajar
            dead: the twin id is empty <- ,1
            dead: `/3`: the backfill flag is true or false <- c,1,,old
            dead: none of the mapped values is there <- d"#]],
        ),
        (
            b"e,9223372036854775808\nf,1e3\ng,2.5",
            expect![[r#"
            f stream 0 at 5000000 Arrival: [(2, Integer(1000))] []
            dead: `/1`: 9223372036854775808 is no integer <- e,9223372036854775808
            dead: `/1`: 2.5 is no integer <- g,2.5"#]],
        ),
    ];
    for (payload, expected) in cases {
        check(numbered(), "t", payload, expected);
    }
}

#[test]
fn lines_and_fields_are_limited() {
    let message = |lines: usize| "1,2,run,x\n\n".repeat(lines).into_bytes();
    assert_eq!(count(&mut lines(""), &message(ELEMENTS_MAX)), (ELEMENTS_MAX, 0));
    assert_eq!(count(&mut lines(""), &message(ELEMENTS_MAX + 1)), (0, 1));
    // Breaks inside of quotes are no lines.
    let quoted = format!("1,2,run,\"{}\"", "\n".repeat(2 * ELEMENTS_MAX));
    assert_eq!(count(&mut lines(""), quoted.as_bytes()), (1, 0));
    let wide = |fields: usize| format!("1,2,run,x\n{}\n2,3,run,x", ",".repeat(fields - 1)).into_bytes();
    let by_number = || {
        decoder(
            r#"[{"from": "plant", "topics": ["t/{twin}"], "decode": "csv", "at": "arrival",
                 "expected_rate": "none", "properties": {"count": "/0", "energy": "/1023"}}]"#,
        )
    };
    for fields in [1_023, 1_024, 1_025, 1_026, 2_049, 5_000] {
        assert_eq!(count(&mut by_number(), &wide(fields)), (2, 1), "{fields}");
    }
    let last = format!("{}7", ",".repeat(1_023));
    assert_eq!(count(&mut by_number(), last.as_bytes()), (1, 0));
    let more = format!("{},7", ",".repeat(1_023));
    assert_eq!(count(&mut by_number(), more.as_bytes()), (0, 1));
}

#[test]
fn streams_that_are_wrong() {
    let mut found = String::new();
    for (decode, stream) in [
        (r#"{"csv": {"columns": ["ts", "t"]}}"#, r#""at": "arrival", "properties": {"temperature": "/t"}"#),
        (
            r#"{"csv": {"columns": ["ts", "temp"]}}"#,
            r#""at": "arrival", "properties": {"temperature": "/tmp"}"#,
        ),
        (
            r#"{"csv": {"columns": ["ts", "temp"]}}"#,
            r#""at": "arrival", "properties": {"temperature": "temp"}"#,
        ),
        (r#"{"csv": {"columns": ["ts", "temp"]}}"#, r#""at": "arrival", "properties": {"temperature": ""}"#),
        (
            r#"{"csv": {"columns": ["ts", "temp"]}}"#,
            r#""at": "arrival", "properties": {"temperature": "/1"}"#,
        ),
        (r#""csv""#, r#""at": "arrival", "properties": {"temperature": "/temp"}"#),
        (r#""csv""#, r#""at": "arrival", "properties": {"temperature": "/1024"}"#),
        (r#""csv""#, r#""at": {"pointer": "ts", "format": "unix_s"}, "properties": {"temperature": "/1"}"#),
        (r#""csv""#, r#""at": "arrival", "twin": "/id", "properties": {"temperature": "/1"}"#),
        (r#""csv""#, r#""at": "arrival", "each": "", "properties": {"temperature": "/1"}"#),
        (r#""csv""#, r#""at": "arrival", "properties": {"box": "/1"}"#),
        (r#""csv""#, r#""properties": {"temperature": "/1"}"#),
        (r#"{"csv": {"separator": ";;"}}"#, r#""at": "arrival", "properties": {"temperature": "/1"}"#),
        (r#"{"csv": {"separator": "\""}}"#, r#""at": "arrival", "properties": {"temperature": "/1"}"#),
        (r#"{"csv": {"separator": "\u00e4"}}"#, r#""at": "arrival", "properties": {"temperature": "/1"}"#),
        (r#"{"csv": {"columns": ["a", "a"]}}"#, r#""at": "arrival", "properties": {"temperature": "/a"}"#),
        (r#"{"csv": {"columns": ["a", ""]}}"#, r#""at": "arrival", "properties": {"temperature": "/a"}"#),
    ] {
        found += &format!("{}\n", problem_of(&format!(r#""decode": {decode}, {stream}"#)));
    }
    expect![[r#"
        good
        properties.temperature: there is no column `tmp`; did you mean `temp`?
        properties.temperature: `temp` is no column; begin it with a slash: /temp
        properties.temperature: `` is no column; write the column with a slash before it, such as /temperature or /0
        properties.temperature: there is no column `1`; there are: temp, ts
        properties.temperature: the stream does not name its columns, so there is no `temp`; name them, as in decode: {csv: {columns: [ts, temperature]}}, or write numbers from 0: /0
        properties.temperature: a line has at most 1024 fields, and there is no column 1024; count columns from 0
        at.pointer: `ts` is no column; begin it with a slash: /ts
        twin: the stream does not name its columns, so there is no `id`; name them, as in decode: {csv: {columns: [ts, temperature]}}, or write numbers from 0: /0
        each: `each` is of JSON, and the stream has `decode: csv`; leave `each` out
        properties.box: `box` is of type object, and `decode: csv` reads scalars; read it from a stream of JSON
        at: `at` is missing; add `at: arrival`, or `at: {pointer: /timestamp, format: unix_ms}`
        decode.csv.separator: `;;` cannot separate fields; write one ASCII character that is no letter, digit or quote, such as ";" or "\t"
        decode.csv.separator: `\"` cannot separate fields; write one ASCII character that is no letter, digit or quote, such as ";" or "\t"
        decode.csv.separator: `ä` cannot separate fields; write one ASCII character that is no letter, digit or quote, such as ";" or "\t"
        decode.csv.columns: two columns are called `a`; give each column a name of its own
        decode.csv.columns: the column 1 has no name; give it one, also where nothing is read from it
    "#]].assert_eq(&found);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Without quotes, each line that is not empty is one event or one dead letter.
    #[test]
    fn each_line_is_an_event_or_a_dead_letter(
        payload in proptest::collection::vec("[0-9a-z,;. \u{e4}]{0,16}", 1..20),
        ending in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")],
    ) {
        let full = payload.iter().filter(|line| !line.is_empty()).count();
        let payload = payload.join(ending);
        prop_assume!(full > 0);
        for mut decoder in [lines(""), lines(r#", "separator": ";""#)] {
            let (events, dead_letters) = count(&mut decoder, payload.as_bytes());
            prop_assert_eq!(events + dead_letters, full);
        }
    }

    /// Good lines stay good beside any others.
    #[test]
    fn neighbours_go_on(bad in proptest::collection::vec("[a-z,.]{1,12}", 0..8)) {
        let payload: String = bad.iter().map(|line| format!("1,2,run,x\n{line}\n")).collect();
        let (events, dead_letters) = count(&mut lines(""), format!("{payload}1,2,run,x").as_bytes());
        prop_assert_eq!((events, dead_letters), (bad.len() + 1, bad.len()));
    }

    #[test]
    fn any_bytes_say_something(payload in prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        "[0-9,\"\r\n a.]{0,200}".prop_map(String::into_bytes),
    ]) {
        for mut decoder in [lines(""), numbered()] {
            let (events, dead_letters) = count(&mut decoder, &payload);
            prop_assert!(events + dead_letters > 0);
        }
    }
}
