//! What an update costs in steps 2 to 4: nanoseconds, of twins of one type and no listener.

use std::time::Instant;

use operators::batch::{ClaimedTime, EventBatch, HeadParts};
use operators::functions::Outcome;
use operators::handler::Nobody;
use operators::model::Value;
use operators::roster::Facts;
use operators::steps::{self, Scratch, Update};
use operators::time::{ArrivalTime, DeviceTime, DigitalTime};
use operators::twin::{Twin, TwinType};

const TWINS: usize = 1_000;

/// Nanoseconds of an update, of so many of each twin. Each carries the type's first property, and these.
pub fn update_ns(definition: &TwinType, updates: usize, more: &[(u16, f64)]) -> f64 {
    let mut twins: Vec<Twin> = (0..TWINS).map(|_| Twin::new(0, definition)).collect();
    let mut scratch = Scratch::default();
    let batches: Vec<EventBatch> = (0..updates).map(|number| batch(number, more)).collect();
    let facts = Facts::default();
    let begin = Instant::now();
    for batch in &batches {
        let event = batch.event(0);
        let update = Update { event, digital_at: DigitalTime(event.head.arrived_at.0), binds: true, facts };
        for twin in &mut twins {
            let nothing = std::iter::empty::<(u16, &Outcome)>();
            steps::apply("p", twin, definition, &update, nothing, &mut scratch, &mut Nobody);
            assert!(scratch.failed.is_empty(), "{:?}", scratch.failed);
        }
    }
    begin.elapsed().as_nanos() as f64 / (TWINS * updates) as f64
}

/// One event, as step 1 makes it.
fn batch(number: usize, more: &[(u16, f64)]) -> EventBatch {
    let mut batch = EventBatch::default();
    let mark = batch.begin();
    let at_us = 1_646_847_376_104_000 + number as i64 * 1_000_000;
    batch.push_property(mark, 0, Value::Double(20.0 + (number * 37 % 1_000) as f64 / 100.0));
    more.iter().for_each(|(property, value)| batch.push_property(mark, *property, Value::Double(*value)));
    let parts = HeadParts {
        position: number as u64,
        element: 0,
        physical_at: DeviceTime(at_us),
        claimed: ClaimedTime::Arrival,
        arrived_at: ArrivalTime(at_us),
        twin_type: 0,
        stream: 0,
        live: true,
    };
    batch.finish(mark, "p", parts);
    batch
}
