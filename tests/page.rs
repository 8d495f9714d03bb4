//! The page for the browser, in a real one: what it shows of jobs and twins, that it is live, and what it
//! says when its server is gone.
//!
//! ```text
//!   test client ──► mosquitto ──► twinloom serve ──► chromium ──► DevTools
//! ```

use std::path::Path;

use serde_json::json;

use crate::harness::broker::Broker;
use crate::harness::browser::Browser;
use crate::harness::client::Client;
use crate::harness::program::{Running, run, start, twinloom};
use crate::harness::site::Site;
use crate::harness::{free_port, http, until};

/// The archive grows by checkpoints; the ids stand in the payloads, for they may be any text.
const JOB: &str = r#"
job: line
connections:
  plant: {mqtt: {url: "URL", qos: 0}}
types:
  device:
    properties: {t: {type: double}, mode: {type: string}}
    physical:
      telemetry:
        from: plant
        topics: ["in/+"]
        twin: /id
        at: arrival
        properties: {t: /t, mode: /mode}
        expected_rate: none
    entanglement: {window: 60s, settle: 0s}
digital: [{to: plant}]
archive: {path: archive}
checkpoint: {interval: 1s}
"#;

/// An id that is no HTML, and no path either.
const ODD: &str = "<b>x</b> /%";

/// Whether the page is connected.
const IS_LIVE: &str = "document.querySelector('#connection').textContent.includes('Live')";

/// A server with a job that has two twins, and a browser.
struct Place {
    browser: Browser,
    server: Option<Running>,
    port: u16,
    publisher: Client,
    site: Site,
    _broker: Broker,
}

impl Place {
    fn new() -> Self {
        let broker = Broker::started();
        let site = Site::of(JOB, &broker);
        let port = free_port();
        let server = serve(site.path(), port);
        let address = format!("127.0.0.1:{port}");
        run(site.path(), &["apply", "job.yaml", "--server", &address]).succeeded();
        let mut publisher = broker.client("publisher");
        until("the job to have twins", || {
            publish(&mut publisher, "press-1", 1.5);
            publish(&mut publisher, ODD, 2.5);
            let (_, overview) = http::get(port, "/v1/overview")?;
            overview.contains(r#""entangled":2"#).then_some(())
        });
        Self { browser: Browser::started(), server: Some(server), port, publisher, site, _broker: broker }
    }

    fn open(&mut self, view: &str) {
        self.browser.go(&format!("http://127.0.0.1:{}/{view}", self.port));
    }

    /// Fails where the browser complained, of the page's policy too.
    fn check_errors(&mut self) {
        let errors = self.browser.take_errors();
        assert!(errors.is_empty(), "{errors:?}");
    }
}

fn serve(folder: &Path, port: u16) -> Running {
    let address = format!("127.0.0.1:{port}");
    let arguments = ["serve", "--data", "srv", "--listen", &address, "--workers", "2"];
    let mut server = start(&mut twinloom(folder, &arguments));
    server.until_logged("serving http://");
    server
}

fn publish(publisher: &mut Client, id: &str, t: f64) {
    publisher.publish("in/x", json!({"id": id, "t": t, "mode": "<i>auto</i>"}).to_string());
}

/// An expression: whether the text of an element has all of these.
fn shows(selector: &str, texts: &[&str]) -> String {
    let (selector, texts) = (json!(selector), json!(texts));
    format!(
        "(text => {texts}.every(one => text?.includes(one)))(document.querySelector({selector})?.textContent)"
    )
}

/// An expression: whether a property of the twin is shown with this value.
fn has_value(name: &str, value: &str) -> String {
    let row = json!([name, value]);
    format!(
        "[...document.querySelectorAll('tbody tr')].some(row => {row}.every((text, i) => \
         row.children[i]?.textContent === text))"
    )
}

#[test]
fn jobs_and_twins_are_shown_live() {
    let mut place = Place::new();
    place.open("");
    place.browser.until("the job", &shows(".cards li h2", &["line"]));
    place.browser.until("its status and twins", &shows(".cards li", &["running", "twins2", "entangled 2"]));
    place.browser.until("a live page", IS_LIVE);

    place.browser.evaluate("document.querySelector('.cards h2 a').click()");
    place.browser.until("the job's name", "document.querySelector('h1').textContent === 'line'");
    let chart = "document.querySelector('svg.chart .line')?.getAttribute('d').startsWith('M') ?? false";
    place.browser.until("a line in the chart", chart);
    place.browser.until("the chart in words", &shows("figcaption", &["Latest 1.000"]));
    place.browser.until("the table of twins", &shows("tbody", &["press-1", ODD, "entangled", "1.000"]));

    // What would be an element, or a path of its own, is the text that it is.
    let link = format!(
        "[...document.querySelectorAll('tbody a')].find(link => link.textContent === {}).click()",
        json!(ODD)
    );
    place.browser.evaluate(&link);
    place
        .browser
        .until("the twin's id", &format!("document.querySelector('h1').textContent === {}", json!(ODD)));
    place.browser.until("the verdict", &shows(".says", &["entangled since", "ODTE 1.000"]));
    place.browser.until("its number", &has_value("t", "2.5"));
    place.browser.until("its text", &has_value("mode", "<i>auto</i>"));
    place.browser.until("a line in the chart", chart);
    assert_eq!(place.browser.evaluate("document.querySelectorAll('b, i').length"), 0);
    place.browser.until("a live page", IS_LIVE);

    // Without requests, only the stream can bring what is new.
    place.browser.evaluate("void (window.fetch = () => new Promise(() => {}))");
    publish(&mut place.publisher, ODD, 7.25);
    place.browser.until("the new value", &has_value("t", "7.25"));
    place.check_errors();
}

#[test]
fn a_lost_server_is_told_and_found_again() {
    let mut place = Place::new();
    place.open("#/jobs/line/twins/press-1");
    place.browser.until("the value", &has_value("t", "1.5"));
    place.browser.until("a live page", IS_LIVE);
    place.check_errors();

    place.server.take();
    place.browser.until("the loss", &shows("#connection", &["Connection lost", "from before"]));
    place.browser.until("what was known", &has_value("t", "1.5"));

    place.server = Some(serve(place.site.path(), place.port));
    place.browser.until("a live page", IS_LIVE);
    let Place { browser, publisher, .. } = &mut place;
    let is_new = has_value("t", "9.5");
    until("a value from after the loss", || {
        publish(publisher, "press-1", 9.5);
        (browser.evaluate(&is_new) == true).then_some(())
    });
    browser.until("no complaint", "document.querySelector('.problem:not([hidden])') === null");
    // That the server did not answer is not the page's fault.
    let errors = browser.take_errors();
    assert!(errors.iter().all(|error| error.starts_with("network: ")), "{errors:?}");
    // And all is well again.
    place.open("#/jobs/line");
    place.browser.until("the table of twins", &shows("tbody", &["press-1", ODD]));
    place.browser.until("a live page", IS_LIVE);
    place.check_errors();
}
