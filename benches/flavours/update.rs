//! How long a new version of a function takes, on a fleet that speaks.
//!
//! ```text
//!  by the API:  PUT ─► checks ─► record on disk ─► opened ─► change ─► all workers have it ─► answer
//!  opened:                                         what runs it: a client of HTTP, a place for processes
//!  the change:                                               change ─► all workers have it
//! ```
//! That all workers have it is seen by a question that is asked behind the change, which each answers after it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dataflows::plan::Plan;
use jobs::live::Board;
use jobs::server::Server;
use jobs::service::{Service, Tenants};

use crate::Settings;
use crate::broker::{Broker, until};
use crate::endpoint::Endpoint;
use crate::flavour::Kind;
use crate::site::{Devices, PER_SECOND, Site, plan};
use crate::table::{Many, Table, ms, quantile};

/// Versions that are put over the API in a run.
const PUT: u32 = 100;
/// Versions that are given to the workers in a run.
const CHANGED: u32 = 300;
/// Between two of them, so that what one starts, such as a process, is not what the next waits for.
const PAUSE: Duration = Duration::from_millis(50);
const WORKERS: usize = 2;
const KINDS: [Kind; 5] = [Kind::Linear, Kind::Cel, Kind::Wasm, Kind::Python, Kind::http(5)];

/// Updates by flavour.
pub fn measure(settings: &Settings) -> Vec<Table> {
    let mut table = Table::new(
        format!(
            "Update of a function on {WORKERS} workers, {} twins at {PER_SECOND}/s, ms; {} runs of {PUT} by the API, {CHANGED} of the change",
            settings.twins, settings.runs
        ),
        [
            "function",
            "paper",
            "PUT, p50",
            "PUT, p99",
            "opened, p50",
            "opened, p99",
            "change on all workers, p50",
            "change, p99",
            "change, most",
        ],
    );
    let broker = Broker::start();
    let mut all = vec![<[Many; 7]>::default(); KINDS.len()];
    for _ in 0..settings.runs {
        for (kind, many) in KINDS.iter().zip(&mut all) {
            let mut put = by_api(*kind, settings, &broker);
            let (mut opened, mut change) = alone(*kind, settings, &broker);
            let values = [
                quantile(&mut put, 0.5),
                quantile(&mut put, 0.99),
                quantile(&mut opened, 0.5),
                quantile(&mut opened, 0.99),
                quantile(&mut change, 0.5),
                quantile(&mut change, 0.99),
                quantile(&mut change, 1.0),
            ];
            many.iter_mut().zip(values).for_each(|(many, value)| many.add(value));
        }
    }
    for (kind, many) in KINDS.iter().zip(&all) {
        let [name, paper] = kind.names();
        table.row([name, paper].into_iter().chain(many.iter().map(|many| many.show(2))));
    }
    vec![table]
}

/// Milliseconds of each PUT.
fn by_api(kind: Kind, settings: &Settings, broker: &Broker) -> Vec<f64> {
    let endpoint = kind.endpoint(settings);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let board = Arc::new(Board::default());
    let service = Service::start(folder.path(), WORKERS, Tenants::default(), board.clone());
    let service = service.expect("it starts");
    let address = "127.0.0.1:0".parse().expect("an address");
    let server = Server::start(address, board.clone(), Some(service.clone())).expect("a free port");
    let text = kind.job(settings, &broker.settings(1).url, endpoint.as_ref(), 1, Duration::from_secs(60));
    // The server counts the versions.
    service.apply("flavours", &text.replace(", version: 1}", "}")).expect("it is applied");
    let metrics = board.find("flavours").and_then(|job| Some(job.running.as_ref()?.metrics.clone()));
    let metrics = metrics.expect("it runs");
    let devices = Devices::start(broker, settings.twins);
    until("all twins to be heard", || metrics.twins.load(Ordering::Relaxed) == settings.twins as i64);
    let taken = (0..PUT).map(|number| {
        let function = kind.function(settings, endpoint.as_ref(), 33 + number);
        std::thread::sleep(PAUSE);
        let begin = Instant::now();
        let answer = put(server.address(), "/v1/jobs/flavours/functions/f", &function);
        let taken = ms(begin.elapsed());
        assert!(answer.contains(" 200 ") && answer.contains("\"how\":\"live\""), "{answer}");
        taken
    });
    let taken = taken.collect();
    drop(devices);
    service.end();
    taken
}

/// A request, and the whole answer.
fn put(address: SocketAddr, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    let length = body.len();
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).expect("the server reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the server answers");
    answer
}

/// Milliseconds of each change that is checked and compiled before: until what runs it is open and the workers are
/// told, and from there on until all have it.
fn alone(kind: Kind, settings: &Settings, broker: &Broker) -> (Vec<f64>, Vec<f64>) {
    let endpoint = kind.endpoint(settings);
    let version = |number: u32| version(kind, settings, broker, endpoint.as_ref(), number);
    let site = Site::start(version(1), WORKERS);
    let devices = Devices::start(broker, settings.twins);
    until("all twins to be heard", || site.events() >= 2 * settings.twins);
    let taken = (2..2 + CHANGED).map(|number| {
        let Plan { types, functions, .. } = version(number);
        assert!(site.run.can_change_functions(&types), "no twin has to change for it");
        std::thread::sleep(PAUSE);
        let begin = Instant::now();
        site.run.set_functions(types, functions).expect("it can be opened");
        let told = Instant::now();
        site.survey();
        (ms(told - begin), ms(told.elapsed()))
    });
    let taken = taken.unzip();
    assert_eq!(site.failures(), 0, "no call fails");
    drop(devices);
    site.end();
    taken
}

fn version(
    kind: Kind,
    settings: &Settings,
    broker: &Broker,
    endpoint: Option<&Endpoint>,
    number: u32,
) -> Plan {
    plan(&kind.job(settings, &broker.settings(1).url, endpoint, number, Duration::from_secs(60)))
}
