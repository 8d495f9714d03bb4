//! CPU seconds per million events, as fast as they are taken: as many are under way as keeps every function busy and
//! overflows none.
//!
//! ```text
//!  memory ── 4,096 under way ──► steps, function ──► digital events as JSON ──► memory, counts
//! ```

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use connectors::clock::{Clock, SystemClock};
use connectors::memory;

use crate::Settings;
use crate::broker::until;
use crate::common::{BATCH, Messages};
use crate::flavour::{ALL, BATCHED, Kind};
use crate::site::{Site, plan, to_memory};
use crate::table::{Many, Table};
use crate::used::Used;

/// Events that are under way at most.
const UNDER_WAY: u64 = 4_096;
const TWINS: usize = 10_000;

/// What has come out, for who sends and who counts.
#[derive(Default)]
struct Flow {
    state: Mutex<State>,
    /// More has come out, or it is over.
    moved: Condvar,
}

#[derive(Default)]
struct State {
    seen: u64,
    is_over: bool,
}

impl Flow {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.moved.notify_all();
    }

    /// Waits for room behind so many that were sent; `false` when it is over.
    fn wait(&self, sent: u64) -> bool {
        let is_full = |state: &mut State| sent >= state.seen + UNDER_WAY && !state.is_over;
        let state = self.moved.wait_while(self.lock(), is_full);
        !state.unwrap_or_else(PoisonError::into_inner).is_over
    }
}

/// CPU by flavour.
pub fn measure(settings: &Settings) -> Vec<Table> {
    let mut table = Table::new(
        format!(
            "CPU seconds per million events of {TWINS} twins, from memory to memory on 1 worker, {UNDER_WAY} events under way; {} runs of {} s",
            settings.runs,
            settings.measured.as_secs()
        ),
        [
            "function",
            "paper",
            "engine",
            "Python",
            "engine and Python",
            "endpoint",
            "events/s",
            "failed",
            "others, cores",
        ],
    );
    let warm = ALL.into_iter().filter(|kind| !matches!(kind, Kind::Http { is_cold: true, .. }));
    let kinds: Vec<Kind> = [Kind::Nothing].into_iter().chain(warm).chain([BATCHED]).collect();
    let mut all = vec![<[Many; 7]>::default(); kinds.len()];
    for _ in 0..settings.runs {
        for (kind, many) in kinds.iter().zip(&mut all) {
            many.iter_mut().zip(run(*kind, settings)).for_each(|(many, value)| many.add(value));
        }
    }
    for (kind, many) in kinds.iter().zip(&all) {
        let digits = [2, 2, 2, 2, 0, 0, 2];
        let cells = many.iter().zip(digits).map(|(many, digits)| many.show(digits));
        table.row(kind.names().into_iter().chain(cells));
    }
    vec![table]
}

/// One run: seconds per million of the engine, of Python, of both, of the endpoint; events a second; failed
/// calls; cores that others took.
fn run(kind: Kind, settings: &Settings) -> [f64; 7] {
    let endpoint = kind.endpoint(settings);
    let text = kind.job(settings, "mqtt://127.0.0.1:1", endpoint.as_ref(), 1, Duration::from_secs(60));
    let mut plan = plan(&text.replace("unix_us", "unix_ms"));
    let flow = Arc::new(Flow::default());
    let messages = Messages::new(TWINS, 1_000);
    let (room, out) = (flow.clone(), flow.clone());
    plan.sources[0].open = Box::new(move |port| {
        let mut sent = 0;
        let batches = std::iter::from_fn(move || {
            let numbers = room.wait(sent).then(|| sent..sent + BATCH)?;
            sent += BATCH;
            let now_us = SystemClock.wall_us();
            Some(numbers.map(|number| messages.message(number, now_us)).collect())
        });
        Ok(memory::source("memory", port.lanes, port.lane_of, batches)?)
    });
    to_memory(&mut plan, move |batch| out.change(|state| state.seen += batch.len() as u64));
    let site = Site::start(plan, 1);
    let seen = || flow.lock().seen;
    // Until all twins are there, and what is outside is warm.
    until("all twins to be there", || seen() > TWINS as u64);
    let (used, events, begin) = (Used::now(), seen(), Instant::now());
    std::thread::sleep(settings.measured);
    let (used, events, took) = (Used::since(used), seen() - events, begin.elapsed());
    let failures = site.failures();
    flow.change(|state| state.is_over = true);
    site.end();
    let per_million = |seconds: f64| seconds / (events as f64 / 1e6);
    let took = took.as_secs_f64();
    let [engine, python, both, endpoint] =
        [used.engine, used.python, used.engine + used.python, used.endpoint].map(per_million);
    [engine, python, both, endpoint, events as f64 / took, failures as f64, used.others / took]
}
