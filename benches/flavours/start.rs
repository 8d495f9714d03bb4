//! How long a twin that was not known takes to its first state, from its device's message on.
//!
//! ```text
//!  message ─► mosquitto ─► engine: a new twin, its function ─► first digital event `state`, seen in this process
//! ```
//! Warm: what runs the function runs already. Cold: nobody has called it before; an endpoint takes as long to start
//! as it is told to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use connectors::message::MessageBatch;
use connectors::sink::SinkHandle;

use crate::Settings;
use crate::broker::{Broker, until};
use crate::flavour::{ALL, Kind};
use crate::site::{Site, plan, publish, publisher, to_memory};
use crate::table::{Many, Table, ms, quantile};

/// New twins of a run.
const TWINS: usize = 500;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(10);
/// Cold starts of a run.
const COLD: usize = 5;

/// When the first state of each twin was seen.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<HashMap<String, Instant>>>);

impl Seen {
    fn take(&self, batch: &MessageBatch) {
        let now = Instant::now();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for message in batch.iter() {
            // twins/<job>/<twin>/state
            let twin = message.topic.split('/').nth(2).unwrap_or_default();
            seen.entry(twin.to_owned()).or_insert(now);
        }
    }

    fn of(&self, twin: &str) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(twin).copied()
    }
}

/// First states by flavour.
pub fn measure(settings: &Settings) -> Vec<Table> {
    let mut table = Table::new(
        format!(
            "From a new twin's message to its first state, ms; {} runs of {TWINS} twins, {COLD} cold; an endpoint's start takes {} ms",
            settings.runs,
            settings.cold_start.as_millis()
        ),
        ["function", "paper", "p50", "p99", "cold"],
    );
    let broker = Broker::start();
    let kinds: Vec<Kind> =
        ALL.into_iter().filter(|kind| !matches!(kind, Kind::Http { is_cold: true, .. })).collect();
    let mut all = vec![<[Many; 3]>::default(); kinds.len()];
    for run in 0..settings.runs {
        for (kind, many) in kinds.iter().zip(&mut all) {
            let mut warm = warm(*kind, settings, &broker, run);
            many[0].add(quantile(&mut warm, 0.5));
            many[1].add(quantile(&mut warm, 0.99));
            if matches!(kind, Kind::Python | Kind::Http { .. }) {
                (0..COLD).for_each(|_| many[2].add(cold(*kind, settings, &broker)));
            }
        }
    }
    for (kind, many) in kinds.iter().zip(&all) {
        let [p50, p99, cold] =
            [(0, 2), (1, 2), (2, 0)].map(|(place, digits): (usize, usize)| many[place].show(digits));
        let [name, paper] = kind.names();
        table.row([name, paper, p50, p99, cold]);
    }
    vec![table]
}

fn start(
    kind: Kind,
    settings: &Settings,
    broker: &Broker,
    url: Option<&crate::endpoint::Endpoint>,
) -> (Site, Seen, SinkHandle) {
    let mut plan = plan(&kind.job(settings, &broker.settings(1).url, url, 1, Duration::from_secs(60)));
    let seen = Seen::default();
    let taken = seen.clone();
    to_memory(&mut plan, move |batch| taken.take(batch));
    (Site::start(plan, 1), seen, publisher(broker))
}

/// Milliseconds of each new twin, beside a function that is warm.
fn warm(kind: Kind, settings: &Settings, broker: &Broker, run: usize) -> Vec<f64> {
    let endpoint = kind.endpoint(settings);
    let (site, seen, sink) = start(kind, settings, broker, endpoint.as_ref());
    publish(&sink, "first", 20.0);
    until("the first state", || seen.of("first").is_some());
    let names: Vec<String> = (0..TWINS).map(|number| format!("new-{run}-{number}")).collect();
    let sent: Vec<Instant> = names
        .iter()
        .map(|name| {
            std::thread::sleep(PAUSE);
            let sent = Instant::now();
            publish(&sink, name, 20.0);
            sent
        })
        .collect();
    until("all first states", || names.iter().all(|name| seen.of(name).is_some()));
    assert_eq!(site.failures(), 0, "no call fails");
    sink.close(Duration::from_secs(1));
    site.end();
    let all = names.iter().zip(sent);
    all.filter_map(|(name, sent)| Some(ms(seen.of(name)?.saturating_duration_since(sent)))).collect()
}

/// Milliseconds of the first twin of a run, whose function has to be started.
fn cold(kind: Kind, settings: &Settings, broker: &Broker) -> f64 {
    let endpoint = kind.endpoint(settings);
    endpoint.iter().for_each(crate::endpoint::Endpoint::chill);
    let (site, seen, sink) = start(kind, settings, broker, endpoint.as_ref());
    let sent = Instant::now();
    publish(&sink, "first", 20.0);
    until("the first state", || seen.of("first").is_some());
    assert_eq!(site.failures(), 0, "no call fails");
    sink.close(Duration::from_secs(1));
    site.end();
    seen.of("first").map_or(f64::NAN, |at| ms(at.saturating_duration_since(sent)))
}
