//! A function behind a real socket that answers in every way that it can.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use expect_test::expect;

use super::*;
use crate::function::{Allowance, CallKey, Inbox};

const LONG: Duration = Duration::from_secs(30);

/// An endpoint: for each request it is told the head and the body, and answers with these bytes.
struct Endpoint {
    url: String,
    told: mpsc::Receiver<(String, String)>,
}

fn endpoint(answers: Vec<String>) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/f", listener.local_addr().expect("it is bound"));
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for answer in answers {
            let (socket, _) = listener.accept().expect("a connection");
            // A test that has what it wants is gone before the rest is asked for.
            let _ = tell.send(read(&socket));
            match answer.as_str() {
                "hang" => kept.push(socket),
                answer => _ = (&socket).write_all(answer.as_bytes()),
            }
        }
        // What hangs, hangs for ever.
        while !kept.is_empty() {
            std::thread::park();
        }
    });
    Endpoint { url, told }
}

fn read(socket: &TcpStream) -> (String, String) {
    let mut reader = BufReader::new(socket);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).expect("a line of the head");
    }
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.expect("a length")];
    reader.read_exact(&mut body).expect("a body");
    (head, String::from_utf8(body).expect("text"))
}

fn good(body: &str) -> String {
    with("200 OK", "application/json", body)
}

fn with(status: &str, content_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// Calls, and waits for their answers.
struct Caller {
    inbox: Arc<Inbox>,
    woken: mpsc::Receiver<()>,
}

impl Caller {
    fn new() -> Self {
        let (wake, woken) = mpsc::channel();
        let inbox = Arc::new(Inbox::default());
        inbox.set_waker(Arc::new(move || _ = wake.send(())));
        Self { inbox, woken }
    }

    fn call(&self, ticket: u64, twin: &str, patience: Duration) -> Call {
        let key = CallKey {
            job: "line".into(),
            twin: twin.into(),
            twin_type: "press".into(),
            update: 10 + ticket,
            function: "quality".into(),
            version: 2,
        };
        Call {
            ticket,
            key: Arc::new(key),
            body: format!("{{\"twin\":\"{twin}\"}}").into_bytes(),
            deadline: Instant::now() + patience,
            inbox: self.inbox.clone(),
        }
    }

    /// Answers in the order of their tickets, a line each.
    fn answers(&self, count: usize) -> String {
        let mut answers = Vec::new();
        while answers.len() < count {
            self.woken.recv_timeout(LONG).expect("an answer");
            answers.extend(self.inbox.take());
        }
        answers.sort_by_key(|answer| answer.ticket);
        let line = |answer: &Answer| match &answer.result {
            Ok(body) => format!("{}: {}\n", answer.ticket, String::from_utf8_lossy(body)),
            Err(failure) => format!("{}: {failure}\n", answer.ticket),
        };
        answers.iter().map(line).collect()
    }
}

fn settings(url: &str, more: &str) -> HttpSettings {
    serde_json::from_str(&format!(r#"{{"url": "{url}", "pause": "1ms"{more}}}"#)).expect("they are settings")
}

/// What one call gets from an endpoint that answers so.
fn check(answers: &[String], more: &str, expected: expect_test::Expect) {
    let endpoint = endpoint(answers.to_vec());
    let function = start(&settings(&endpoint.url, more)).expect("it starts");
    let caller = Caller::new();
    function.call(caller.call(1, "p-1", LONG)).expect("there is room");
    expected.assert_eq(&caller.answers(1));
    assert_eq!(function.status().in_flight, 0);
}

#[test]
fn answers_of_every_kind() {
    check(
        &[good(r#"{"q":1}"#)],
        "",
        expect![[r#"
        1: {"q":1}
    "#]],
    );
    check(
        &[with("204 No Content", "text/plain", "")],
        "",
        expect![[r#"
        1: {}
    "#]],
    );
    let event = r#"{"specversion":"1.0","id":"x","data":{"q":2}}"#;
    check(
        &[with("200 OK", "application/cloudevents+json", event)],
        "",
        expect![[r#"
        1: {"q":2}
    "#]],
    );
    check(
        &[with("503 Busy", "text/plain", ""), good(r#"{"q":3}"#)],
        "",
        expect![[r#"
        1: {"q":3}
    "#]],
    );
    check(
        &[with("500 No", "text/html", "<html>"), with("500 No", "text/html", "<html>")],
        r#", "retries": 1"#,
        expect![[r#"
            1: error: the endpoint answers 500 Internal Server Error
        "#]],
    );
    check(
        &[with("404 Gone", "text/plain", "")],
        "",
        expect![[r#"
        1: error: the endpoint answers 404 Not Found
    "#]],
    );
    let redirect = "HTTP/1.1 302 Found\r\nLocation: /f\r\nContent-Length: 0\r\n\r\n".to_owned();
    check(
        &[redirect],
        "",
        expect![[r#"
        1: error: the endpoint answers 302 Found; redirects are not followed, call where it leads
    "#]],
    );
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{\"q\":".to_owned();
    check(
        &[half.clone(), half],
        r#", "retries": 1"#,
        expect![[r#"
        1: error: the answer broke off: end of file before message length reached
    "#]],
    );
    check(
        &[good(&"x".repeat(2_000))],
        r#", "answer_max": "1KB""#,
        expect![[r#"
        1: too_large: the answer has more than 1000 bytes
    "#]],
    );
    check(
        &["hang".into(), "hang".into()],
        r#", "retries": 1, "attempt": "20ms""#,
        expect![[r#"
        1: timeout: no answer in time
    "#]],
    );
    check(
        &["".into()],
        r#", "retries": 0"#,
        expect![[r#"
        1: error: the request failed: connection closed before message completed
    "#]],
    );
}

#[test]
fn a_call_is_a_cloud_event() {
    let twin = "p 1/ä";
    let endpoint_ = endpoint(vec![good("{}"), good("{}")]);
    let caller = Caller::new();
    for more in [r#", "headers": {"X-Token": "t"}"#, r#", "format": "structured""#] {
        let function = start(&settings(&endpoint_.url, more)).expect("it starts");
        function.call(caller.call(1, twin, LONG)).expect("there is room");
        caller.answers(1);
    }
    let (head, body) = endpoint_.told.recv_timeout(LONG).expect("a request");
    for line in [
        "content-type: application/json",
        "ce-specversion: 1.0",
        "ce-id: line/quality@2/11/p%201/%C3%A4",
        "ce-source: /jobs/line",
        "ce-type: twinloom.update",
        "ce-subject: p%201/%C3%A4",
        "ce-function: quality",
        "ce-functionversion: 2",
        "idempotency-key: \"line/quality@2/11/p%201/%C3%A4\"",
        "x-token: t",
    ] {
        assert!(head.to_lowercase().lines().any(|one| one == line.to_lowercase()), "{line} in {head}");
    }
    assert_eq!(body, r#"{"twin":"p 1/ä"}"#);
    let (head, body) = endpoint_.told.recv_timeout(LONG).expect("a request");
    assert!(head.contains("application/cloudevents+json"), "{head}");
    let event: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(event["data"]["twin"], twin);
    assert_eq!((&event["id"], &event["subject"]), (&"line/quality@2/11/p 1/ä".into(), &twin.into()));
}

#[test]
fn calls_that_wait_go_in_one_batch_and_are_told_apart_by_their_ids() {
    // The first request goes alone, and waits until the others are there.
    let id = |ticket: u64| format!("line/quality@2/{}/p-{ticket}", 10 + ticket);
    let event =
        |ticket: u64| format!(r#"{{"specversion":"1.0","id":"{}","data":{{"n":{ticket}}}}}"#, id(ticket));
    let answers = format!("[{},{}]", event(3), event(2));
    let (listener, caller) = (TcpListener::bind("127.0.0.1:0").expect("a free port"), Caller::new());
    let url = format!("http://{}/f", listener.local_addr().expect("it is bound"));
    let function = start(&settings(&url, r#", "batch": 10, "concurrency": 1"#)).expect("it starts");
    function.call(caller.call(1, "p-1", LONG)).expect("there is room");
    let (first, _) = listener.accept().expect("the first request");
    read(&first);
    (2..=4).for_each(|n| function.call(caller.call(n, &format!("p-{n}"), LONG)).expect("there is room"));
    (&first).write_all(good("[]").as_bytes()).expect("it is written");
    let (second, _) = listener.accept().expect("the second request");
    let (head, body) = read(&second);
    assert!(head.contains("application/cloudevents-batch+json"), "{head}");
    assert_eq!(body.matches("specversion").count(), 3, "{body}");
    (&second).write_all(good(&answers).as_bytes()).expect("it is written");
    expect![[r#"
        1: {}
        2: {"n":2}
        3: {"n":3}
        4: error: the answer has nothing for this event
    "#]]
    .assert_eq(&caller.answers(4));
}

#[test]
fn what_has_no_room_is_refused_and_an_open_breaker_fails_at_once() {
    let endpoint = endpoint(vec!["hang".into(), "hang".into()]);
    let more = r#", "queue": 1, "concurrency": 1, "attempt": "1h", "retries": 0"#;
    let function = start(&settings(&endpoint.url, more)).expect("it starts");
    let caller = Caller::new();
    (0..2).for_each(|n| function.call(caller.call(n, "p", LONG)).expect("there is room"));
    assert_eq!(function.call(caller.call(2, "p", LONG)).expect_err("there is none").ticket, 2);
    assert_eq!(function.status().in_flight, 2);

    // Nobody listens there.
    let gone = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("it is bound");
    let more = r#", "retries": 0, "concurrency": 1, "breaker": {"failures": 2, "pause": "1h"}"#;
    let function = start(&settings(&format!("http://{gone}/"), more)).expect("it starts");
    let caller = Caller::new();
    (0..3).for_each(|n| function.call(caller.call(n, "p", LONG)).expect("there is room"));
    let answers = caller.answers(3);
    assert_eq!(answers.matches("cannot connect").count(), 2, "{answers}");
    assert!(
        answers.ends_with(
            "2: unavailable: the endpoint has failed too often and is left in peace for a while\n"
        ),
        "{answers}"
    );
    assert!(function.status().is_open);
}

/// Calls wait while another function uses all the time that there is; what has waited too long is not made.
#[test]
fn calls_wait_for_functions_time() {
    let Endpoint { url, told } = endpoint(vec![good(r#"{"a": 2}"#)]);
    let function = start(&settings(&url, "")).expect("it starts");
    let allowance = Arc::new(Allowance::new(1.0));
    let other = Arc::new(Meter::new(Arc::new(|| {})));
    let meter = function.meter().expect("it is measured");
    for meter in [meter, &other] {
        meter.draw_on(std::slice::from_ref(&allowance));
    }
    let caller = Caller::new();
    let used = other.begin().expect("nobody else uses it");
    function.call(caller.call(1, "p-1", Duration::from_millis(20))).expect("there is room");
    expect![[r#"
        1: timeout: the functions' time that its job or tenant may use was used up
    "#]]
    .assert_eq(&caller.answers(1));
    function.call(caller.call(2, "p-2", LONG)).expect("there is room");
    while meter.held() < 2 {
        std::thread::yield_now();
    }
    drop(used);
    assert_eq!(caller.answers(1), "2: {\"a\": 2}\n");
    assert_eq!(told.try_iter().count(), 1);
    assert!(meter.spent() > Duration::ZERO);
}

#[test]
fn ten_thousand_calls_are_in_flight_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/f", listener.local_addr().expect("it is bound"));
    let function =
        start(&settings(&url, r#", "batch": 100, "concurrency": 100, "attempt": "1h""#)).expect("it starts");
    let caller = Caller::new();
    (0..10_000).for_each(|n| function.call(caller.call(n, "p", LONG)).expect("there is room"));
    assert_eq!(function.status().in_flight, 10_000);
    // None is answered before all requests are there.
    let mut sockets = Vec::new();
    let mut events = 0;
    while events < 10_000 {
        let (socket, _) = listener.accept().expect("a request");
        events += read(&socket).1.matches("specversion").count();
        sockets.push(socket);
        if sockets.len() == 100 {
            sockets
                .drain(..)
                .for_each(|socket| (&socket).write_all(good("[]").as_bytes()).expect("it is written"));
        }
    }
    sockets.drain(..).for_each(|socket| (&socket).write_all(good("[]").as_bytes()).expect("it is written"));
    assert_eq!(caller.answers(10_000).lines().count(), 10_000);
}

#[test]
fn settings_that_cannot_work_are_told() {
    for (json, expected) in [
        (r#"{"url": "https://example.com/a"}"#, None),
        (r#"{"url": "ftp://example.com"}"#, Some("url")),
        (r#"{"url": "http://a", "batch": 0}"#, Some("batch")),
        (r#"{"url": "http://a", "concurrency": 20000}"#, Some("concurrency")),
        (r#"{"url": "http://a", "attempt": "0s"}"#, Some("attempt")),
        (r#"{"url": "http://a", "headers": {"a b": "c"}}"#, Some("headers")),
    ] {
        let settings: HttpSettings = serde_json::from_str(json).expect("they are settings");
        let found = settings.check().err();
        match expected {
            None => assert_eq!(found, None, "{json}"),
            Some(word) => assert!(found.is_some_and(|reason| reason.starts_with(word)), "{json}"),
        }
    }
}
