//! The server as a client sees it.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;

fn ask(address: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    let request = format!("{head}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the server reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the server answers");
    answer
}

fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost"))
}

fn server() -> Server {
    let address = "127.0.0.1:0".parse().expect("an address");
    Server::start(address, Arc::new(Board::default()), None).expect("a free port")
}

#[test]
fn metrics_health_and_page_are_served_on_loopback() {
    let server = server();
    for (path, status, text) in [
        ("/metrics", "200", "# EOF"),
        ("/health/live", "200", "live"),
        ("/health/ready", "200", "ready"),
        ("/", "200", "page.js"),
        ("/page.js", "200", "hashchange"),
        ("/api.js", "200", "EventSource"),
        ("/page.css", "200", "prefers-color-scheme"),
        ("/openapi.json", "200", "\"openapi\":\"3.1.0\""),
        ("/v1/jobs", "200", "{\"jobs\":[]}"),
        ("/v1/jobs/none", "404", "urn:twinloom:problem:unknown-job"),
        ("/v1/jobs/none/twins?limit=0", "404", "unknown-job"),
        ("/v1/nothing", "404", "no-such-path"),
        ("/v1/plan", "405", "method-not-allowed"),
    ] {
        let answer = get(server.address(), path);
        let first = answer.lines().next().unwrap_or_default();
        assert!(first.contains(status) && answer.contains(text), "{path}: {answer}");
    }
    server.ending();
    assert!(get(server.address(), "/health/ready").contains("503"));
}

#[test]
fn what_others_could_reach_is_refused() {
    for (address, is_good) in
        [("127.0.0.1:9464", true), ("[::1]:9464", true), ("0.0.0.0:9464", false), ("192.168.1.2:9464", false)]
    {
        assert_eq!(check(address.parse().expect("an address")).is_ok(), is_good, "{address}");
    }
}

/// A page that the user visits may have the browser ask loopback, under a name of its own even.
#[test]
fn requests_of_other_origins_are_refused() {
    let server = server();
    for (headers, is_good) in [
        ("Host: localhost", true),
        ("Host: 127.0.0.1:8420", true),
        ("Host: [::1]:8420", true),
        ("Host: [::1]", true),
        ("Host: evil.example", false),
        ("Host: 127.0.0.1.evil.example:80", false),
        ("Host: 192.168.1.2", false),
        ("Host: localhost\r\nOrigin: http://localhost:8420", true),
        ("Host: localhost\r\nOrigin: http://evil.example", false),
        ("Host: localhost\r\nOrigin: null", false),
    ] {
        let answer = ask(server.address(), &format!("GET /v1/jobs HTTP/1.1\r\n{headers}"));
        assert_eq!(answer.starts_with("HTTP/1.1 200"), is_good, "{headers}: {answer}");
    }
}
