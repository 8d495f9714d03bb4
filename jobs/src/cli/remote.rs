//! The commands' way to a server that runs.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use clap::Args;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body};

use super::Failure;

/// Where a server answers unless told otherwise.
pub(super) const ADDRESS_DEFAULT: &str = "127.0.0.1:8420";

/// How long an answer may take: a change waits for checkpoints.
const ANSWER_MAX: Duration = Duration::from_secs(120);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// What stands in a path as it is.
const AS_IT_IS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Which server.
#[derive(Clone, Debug, Args)]
pub(super) struct RemoteArguments {
    /// The server's address
    #[arg(long, value_name = "ADDRESS:PORT", default_value = ADDRESS_DEFAULT, env = "TWINLOOM_SERVER")]
    server: String,
    /// Print JSON to standard output
    #[arg(long)]
    pub(super) json: bool,
}

impl RemoteArguments {
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.read(path, agent(Some(ANSWER_MAX)).get(self.url(path)).call())
    }

    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: &str) -> Result<T, Failure> {
        self.read(path, agent(Some(ANSWER_MAX)).post(self.url(path)).send(body))
    }

    pub(super) fn put<T: DeserializeOwned>(&self, path: &str, body: &[u8]) -> Result<T, Failure> {
        self.read(path, agent(Some(ANSWER_MAX)).put(self.url(path)).send(body))
    }

    pub(super) fn delete(&self, path: &str) -> Result<(), Failure> {
        let response = agent(Some(ANSWER_MAX)).delete(self.url(path)).call();
        self.good(response).map(drop)
    }

    /// Follows a stream; `take` gets the name and data of each event, and says whether to go on.
    pub(super) fn follow(&self, path: &str, mut take: impl FnMut(&str, &str) -> bool) -> Result<(), Failure> {
        let response = self.good(agent(None).get(self.url(path)).call())?;
        let lines = BufReader::new(response.into_body().into_reader()).lines();
        let mut name = String::new();
        for line in lines {
            let line = line.map_err(Failure::of)?;
            match line.split_once(": ").or_else(|| line.split_once(':')) {
                Some(("event", event)) => name = event.to_owned(),
                Some(("data", data)) if !take(&name, data) => return Ok(()),
                _ => {}
            }
        }
        Err(Failure::Failed("the server ended the stream".into()))
    }

    fn url(&self, path: &str) -> String {
        let server = self.server.trim_end_matches('/');
        match server.contains("://") {
            true => format!("{server}{path}"),
            false => format!("http://{server}{path}"),
        }
    }

    fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        response: Result<Response<Body>, ureq::Error>,
    ) -> Result<T, Failure> {
        let response = self.good(response)?;
        let text = text(response)?;
        serde_json::from_str(&text).map_err(|error| {
            Failure::Failed(format!(
                "the answer to {path} is not understood: {error}; is it a twinloom server?"
            ))
        })
    }

    /// The response, where it is no problem.
    fn good(&self, response: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Failure> {
        let response = response.map_err(|error| {
            let server = &self.server;
            Failure::Failed(format!(
                "no answer from {server}: {error}; start one with `twinloom serve --data DIR`, or name it with --server"
            ))
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = text(response)?;
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        if self.json {
            println!("{}", if problem.is_null() { Value::from(text.clone()) } else { problem.clone() });
        }
        let title = problem["title"].as_str();
        let detail = problem["detail"].as_str().unwrap_or(&text);
        let Some(title) = title else { return Err(Failure::Failed(format!("{status}: {detail}"))) };
        let findings = problem["findings"].as_array().filter(|_| !self.json);
        for finding in findings.into_iter().flatten() {
            let word = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
            let (line, column) = (&finding["line"], &finding["column"]);
            eprintln!("{line}:{column}: {}: {}\n  help: {}", word("severity"), word("message"), word("help"));
        }
        match status.as_u16() {
            422 => Err(Failure::Invalid),
            _ => Err(Failure::Failed(format!("{title}: {detail}"))),
        }
    }
}

/// A path with these parts, encoded.
pub(super) fn path(parts: &[&str]) -> String {
    let parts = parts.iter().map(|part| utf8_percent_encode(part, AS_IT_IS).to_string());
    format!("/v1/{}", parts.collect::<Vec<_>>().join("/"))
}

/// A path with parameters.
pub(super) fn with_query(path: &str, query: &[(&str, String)]) -> String {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let parts: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    match parts.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{}", parts.join("&")),
    }
}

fn agent(timeout: Option<Duration>) -> Agent {
    let config = Agent::config_builder().http_status_as_error(false).timeout_global(timeout);
    // What is on this machine is not behind a proxy.
    config.proxy(None).build().into()
}

fn text(response: Response<Body>) -> Result<String, Failure> {
    let mut text = String::new();
    let mut reader = response.into_body().into_reader().take(ANSWER_BYTES_MAX);
    reader.read_to_string(&mut text).map_err(Failure::of)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_encoded_in_paths() {
        assert_eq!(path(&["jobs", "line", "twins", "p/1 %"]), "/v1/jobs/line/twins/p%2F1%20%25");
    }
}
