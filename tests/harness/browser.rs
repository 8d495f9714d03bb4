//! A real browser without a screen: Chromium with a profile of its own, driven by the DevTools protocol,
//! so that pages are tested as their readers' browsers run them.

use std::net::TcpStream;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

use super::program::{Running, start};
use super::{LONG, in_time, until};

/// What the browser writes before its address, once it listens.
const LISTENING: &str = "DevTools listening on ";

/// A browser with one tab, ended when dropped.
pub struct Browser {
    socket: WebSocket<TcpStream>,
    session: String,
    next_id: u64,
    errors: Vec<String>,
    /// Dropped before the folder that it writes to.
    process: Option<Running>,
    _profile: TempDir,
}

impl Browser {
    /// A browser that runs, with an empty tab.
    pub fn started() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_there = std::env::split_paths(&path).any(|folder| folder.join("chromium").is_file());
        assert!(is_there, "chromium is missing; `make test` installs it");
        let profile = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new("chromium");
        // A container's user may be root, and its shared memory small.
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.args(["--no-first-run", "--remote-debugging-port=0"]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        let mut process = start(&mut command);
        process.until_logged(LISTENING);
        let url = until("the browser's address", || {
            let log = process.log();
            let (_, rest) = log.split_once(LISTENING)?;
            rest.split_once('\n').map(|(url, _)| url.trim().to_owned())
        });
        let address = url.trim_start_matches("ws://").split('/').next().expect("a split has a first part");
        let stream = TcpStream::connect(address).expect("the browser listens");
        stream.set_read_timeout(Some(LONG)).expect("a TCP socket");
        let (socket, _) = tungstenite::client(&url, stream).expect("the browser speaks DevTools");
        let mut browser = Self {
            socket,
            session: String::new(),
            next_id: 0,
            errors: Vec::new(),
            process: Some(process),
            _profile: profile,
        };
        browser.attach();
        browser
    }

    /// Opens an address.
    pub fn go(&mut self, url: &str) {
        let answer = self.call("Page.navigate", json!({"url": url}));
        assert!(answer["result"]["errorText"].is_null(), "{url}: {answer}");
    }

    /// The value of an expression; null where the page goes away meanwhile.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut answer = self.call("Runtime.evaluate", parameters);
        let exception = &answer["result"]["exceptionDetails"];
        assert!(exception.is_null(), "`{expression}`: {exception}");
        answer["result"]["result"]["value"].take()
    }

    /// Waits until an expression is true; fails with what the page shows then.
    pub fn until(&mut self, what: &str, expression: &str) {
        let found = in_time(|| (self.evaluate(expression) == true).then_some(()));
        if found.is_none() {
            let shown = self.evaluate("document.body.innerText");
            panic!("waited {LONG:?} for: {what}; errors {:?}; the page shows {shown}", self.errors);
        }
    }

    /// What the browser complained of since this was last asked, each behind where it comes from, such as
    /// `javascript: `, `security: ` (a policy is broken) or `network: `.
    pub fn take_errors(&mut self) -> Vec<String> {
        // All that was said before this answer has been read with it.
        self.evaluate("0");
        std::mem::take(&mut self.errors)
    }

    /// Takes the tab that it starts with.
    fn attach(&mut self) {
        let tab = until("the browser's tab", || {
            let found = self.call("Target.getTargets", json!({}));
            let targets = found["result"]["targetInfos"].as_array()?;
            let tab = targets.iter().find(|target| target["type"] == "page")?;
            Some(tab["targetId"].clone())
        });
        let attached = self.call("Target.attachToTarget", json!({"targetId": tab, "flatten": true}));
        let session = attached["result"]["sessionId"].as_str();
        self.session = session.unwrap_or_else(|| panic!("no session: {attached}")).to_owned();
        for domain in ["Page", "Runtime", "Log"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
    }

    /// Sends a command, and waits for its answer.
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.next_id += 1;
        let mut command = json!({"id": self.next_id, "method": method, "params": parameters});
        if !self.session.is_empty() {
            command["sessionId"] = self.session.as_str().into();
        }
        let sent = self.socket.send(Message::text(command.to_string()));
        sent.unwrap_or_else(|error| panic!("{method}: {error}"));
        loop {
            let read = self.socket.read().unwrap_or_else(|error| panic!("no answer to {method}: {error}"));
            let Message::Text(text) = read else { continue };
            let message: Value = serde_json::from_str(&text).expect("DevTools speak JSON");
            if message["id"] == self.next_id {
                return message;
            }
            self.errors.extend(error_of(&message));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to, it ends its other processes too; where a test fails it is killed, which ends them as well.
        let close = json!({"id": 0, "method": "Browser.close"});
        let is_asked = self.socket.send(Message::text(close.to_string())).is_ok();
        if let Some(process) = self.process.take()
            && is_asked
            && !std::thread::panicking()
        {
            process.wait();
        }
    }
}

/// The complaint that an event is, where it is one.
fn error_of(event: &Value) -> Option<String> {
    let parameters = &event["params"];
    let (source, text) = match event["method"].as_str()? {
        "Runtime.exceptionThrown" => ("javascript", parameters["exceptionDetails"].to_string()),
        "Runtime.consoleAPICalled" if parameters["type"] == "error" => {
            ("javascript", parameters["args"].to_string())
        }
        "Log.entryAdded" if parameters["entry"]["level"] == "error" => {
            let entry = &parameters["entry"];
            (entry["source"].as_str()?, format!("{} {}", entry["text"], entry["url"]))
        }
        _ => return None,
    };
    Some(format!("{source}: {text}"))
}
