//! The paper's flavours beside each other: the same twins with the same function, where it may run.
//!
//! ```text
//!                                                        ┌─ in the engine: linear, cel, wasm       MDT, MDT-f
//!  devices, 10/s each ─► mosquitto ─► engine ─► function ─┼─ in a process beside it: python         MDT-f
//!                                                        └─ behind HTTP, after a delay: endpoint    SEDT, SCDT
//! ```
//! - `curve`: ODTE by how fresh a twin is wanted (T_d), as the engine says it (the paper's Fig. 8), and from which T_d
//!   on the fleet is entangled. CPU at that pace comes with it.
//! - `cpu`: CPU seconds per million events, as fast as they are taken.
//! - `start`: from the first message of a twin that was not known to its first state.
//! - `update`: from a new version of a function to all workers that run it, by the API and without what is around it.
//! - `calls`: what a call costs beside the same update without it, and what 8 and 64 functions cost beside one.
//!
//! The endpoint is a thread of this process, and its CPU is counted apart; its delay is really one, and no busy server.
//! Nothing is judged: the figures are for people. `--only PART`, `--runs N`, `--seconds S`, `--window S`, `--twins N`,
//! `--cold-ms MS` (an endpoint's start), `--interpreter PYTHON`, `--markdown`. A machine that does other things besides is
//! measured too: `chrt --rr 10` in front keeps it out of ODTE, starts and updates.

#[path = "../common/broker.rs"]
mod broker;
mod calls;
#[allow(dead_code, reason = "each bench uses a part of it")]
#[path = "../common/mod.rs"]
mod common;
mod cpu;
mod curve;
mod endpoint;
mod flavour;
mod site;
mod start;
mod table;
mod update;
#[path = "../common/update_cost.rs"]
mod update_cost;
mod used;

use std::time::Duration;

use common::argument;
use table::Table;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A part: what it measured.
type Measure = fn(&Settings) -> Vec<Table>;

/// What the command line says.
pub struct Settings {
    /// How often each part is measured.
    pub runs: usize,
    /// How long what is measured by time takes.
    pub measured: Duration,
    /// The window of ODTE.
    pub window: Duration,
    /// Devices, at ten messages a second each.
    pub twins: u64,
    /// How long an endpoint takes that starts cold.
    pub cold_start: Duration,
    /// What runs Python.
    pub interpreter: String,
}

fn main() {
    let number = |name: &str, default: u64| {
        argument(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: a number")))
    };
    let settings = Settings {
        runs: number("--runs", 3) as usize,
        measured: Duration::from_secs(number("--seconds", 10)),
        window: Duration::from_secs(number("--window", 5)),
        twins: number("--twins", 50),
        cold_start: Duration::from_millis(number("--cold-ms", 2_000)),
        interpreter: argument("--interpreter").unwrap_or_else(|| "python3".into()),
    };
    let parts: [(&str, Measure); 5] = [
        ("curve", curve::measure),
        ("cpu", cpu::measure),
        ("start", start::measure),
        ("update", update::measure),
        ("calls", calls::measure),
    ];
    let only = argument("--only");
    if let Some(only) = &only {
        assert!(parts.iter().any(|(name, _)| name == only), "--only {only}: it is none of the parts");
    }
    for (name, measure) in parts {
        if only.as_deref().is_none_or(|only| only == name) {
            measure(&settings).iter().for_each(Table::print);
        }
    }
}
