//! What a twin's record costs: bytes, and nanoseconds to write it, to read it, and to restore it (read,
//! check, adapt, set its wake). The twins are the paper's: 3 properties, of which one is computed,
//! and a window of 14 observations; beside them ones with a window in sub-windows.
//!
//! ```text
//! cargo run --release -p twinloom-operators --example snapshot_cost
//! ```

use std::hint::black_box;
use std::time::Instant;

use indexmap::IndexMap;
use operators::adaptation::Adaptation;
use operators::batch::{ClaimedTime, EventBatch, HeadParts};
use operators::entanglement::{EntanglementSettings, ExpectedRate, Terms};
use operators::functions::{FunctionSettings, Functions};
use operators::handler::{self, Nobody};
use operators::layout::Layout;
use operators::model::{ModelSettings, Value, compile};
use operators::roster::Facts;
use operators::steps::{self, Scratch, Update};
use operators::time::{ArrivalTime, DeviceTime, DigitalTime};
use operators::twin::{StreamOf, Twin, TwinType};

const TWINS: usize = 20_000;
const ROUNDS: usize = 10;

fn device(window: &str, rate: &str) -> TwinType {
    let settings = ModelSettings {
        properties: serde_json::from_str(
            r#"{"temperature": {"type": "double"}, "energy": {"type": "double"}, "temperature_f": {"type": "double"}}"#,
        )
        .expect("well formed"),
        ..ModelSettings::default()
    };
    let functions: IndexMap<String, FunctionSettings> = serde_json::from_str(
        r#"{"temperature_f": {"linear": {"of": "temperature", "factor": 1.8, "offset": 32}}}"#,
    )
    .expect("well formed");
    let entanglement: EntanglementSettings =
        serde_json::from_str(&format!(r#"{{"window": "{window}"}}"#)).expect("well formed");
    let model = compile(&settings).expect("the model is good");
    let rate = ExpectedRate::parse(rate).expect("a rate").resolve(&model).expect("it is one");
    TwinType {
        name: "device".into(),
        functions: Functions::compile(&functions, &model, &[0, 1]).expect("the functions are good"),
        model,
        clock: (&entanglement.clock).into(),
        terms: Terms::compile(&entanglement, &[rate]).expect("good"),
        sources: vec![0],
        streams: vec![StreamOf { name: "telemetry".into(), source: 0 }],
        presence: None,
    }
}

/// A twin that was updated so often, every so many microseconds or a little later.
fn twin(number: usize, definition: &TwinType, updates: usize, gap_us: i64) -> Twin {
    let mut twin = Twin::new(0, definition);
    let mut scratch = Scratch::default();
    let mut at_us = 1_646_847_376_104_000 + number as i64 * 977;
    for update in 0..updates {
        at_us += gap_us + (update * 7_919 % 1_009) as i64;
        let mut batch = EventBatch::default();
        let mark = batch.begin();
        batch.push_property(mark, 0, Value::Double(20.0 + (number * 37 % 1_000) as f64 / 100.0));
        batch.push_property(mark, 1, Value::Double(4.0 + (number * 91 % 500) as f64 / 100.0));
        let parts = HeadParts {
            position: update as u64,
            element: 0,
            physical_at: DeviceTime((at_us - 20_000) / 1_000 * 1_000),
            claimed: ClaimedTime::Device,
            arrived_at: ArrivalTime(at_us),
            twin_type: 0,
            stream: 0,
            live: true,
        };
        batch.finish(mark, "p", parts);
        let update = Update {
            event: batch.event(0),
            digital_at: DigitalTime(at_us + 150),
            binds: true,
            facts: Facts::default(),
        };
        steps::apply("p", &mut twin, definition, &update, std::iter::empty(), &mut scratch, &mut Nobody);
    }
    twin
}

/// Nanoseconds a twin, the least of some rounds.
fn least_ns(mut round: impl FnMut()) -> f64 {
    let ns = (0..ROUNDS).map(|_| {
        let begin = Instant::now();
        round();
        begin.elapsed().as_nanos() as f64 / TWINS as f64
    });
    ns.fold(f64::MAX, f64::min)
}

fn measure(name: &str, definition: TwinType, updates: usize, gap_us: i64) {
    let twins: Vec<Twin> = (0..TWINS).map(|number| twin(number, &definition, updates, gap_us)).collect();
    let types = [definition];
    let (adaptation, _) = Adaptation::new(&Layout::of(&types), &types).expect("nothing has changed");
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    let write_ns = least_ns(|| {
        bytes.clear();
        ends.clear();
        for twin in &twins {
            twin.write(&mut bytes);
            ends.push(bytes.len());
        }
    });
    let records = || {
        let begins = std::iter::once(0).chain(ends.iter().copied());
        begins.zip(&ends).map(|(begin, end)| &bytes[begin..*end])
    };
    // What is read is kept, as a restore does, and dropped outside of the measurement.
    let mut kept: Vec<Twin> = Vec::with_capacity(TWINS);
    let mut read_ns = f64::MAX;
    let mut restore_ns = f64::MAX;
    for _ in 0..ROUNDS {
        kept.clear();
        let begin = Instant::now();
        kept.extend(
            records().map(|record| Twin::read(record, operators::snapshot::VERSION).expect("it was written")),
        );
        read_ns = read_ns.min(begin.elapsed().as_nanos() as f64 / TWINS as f64);
        kept.clear();
        let begin = Instant::now();
        kept.extend(records().map(|record| adaptation.restore(record).expect("it was written")));
        restore_ns = restore_ns.min(begin.elapsed().as_nanos() as f64 / TWINS as f64);
    }
    let tick_ns = least_ns(|| {
        for twin in &mut kept {
            handler::tick("p", black_box(twin), &types[0], i64::MIN, &mut Nobody);
        }
    });
    println!(
        "{name:<24} {:>5} bytes  write {write_ns:>5.0} ns  read {read_ns:>5.0} ns  restore {restore_ns:>5.0} ns  \
         a tick {tick_ns:>5.0} ns",
        bytes.len() / TWINS
    );
}

fn main() {
    measure("14 observations", device("60s", "0.22/s"), 30, 4_400_000);
    measure("14, window not full", device("60s", "0.22/s"), 14, 4_200_000);
    measure("64 sub-windows", device("60s", "10/s"), 800, 100_000);
}
