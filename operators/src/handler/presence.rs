//! What else an update tells of its physical twin: that it is up or down, and how often it reports.

use super::Physical;
use crate::entanglement::Rate;
use crate::life_cycle::{Reason, Transition};
use crate::model::Value;
use crate::shadowing::TimeSource;
use crate::twin::{Twin, TwinType};

/// Presence says that the physical twin is up, or down (rules 4.3, 5.1, 5.4).
pub(super) fn presence(
    twin: &mut Twin,
    definition: &TwinType,
    physical: &Physical<'_>,
    is_up: bool,
    binds: bool,
) -> Option<Transition> {
    let terms = definition.terms_of(twin);
    let at_us = physical.digital_at.0;
    if !is_up {
        twin.entanglement.go_down(at_us, claimed_us(physical), terms);
        return twin.life_cycle.unbind(at_us, Reason::Down, None);
    }
    twin.entanglement.come_up(at_us);
    if !binds {
        return None;
    }
    twin.entanglement.bind(at_us);
    twin.handled.note_arrival(physical);
    twin.life_cycle.heard(at_us, Reason::Up)
}

/// Whether an update is older than the news that the physical twin is down: it does not bind again (rule 5.4).
pub(super) fn is_before_down(twin: &Twin, physical: &Physical<'_>) -> bool {
    twin.entanglement.down_physical_us().is_some_and(|down_us| claimed_us(physical) <= down_us)
}

/// When a physical event was, as far as that is believed.
fn claimed_us(physical: &Physical<'_>) -> i64 {
    match physical.shadowed.time_source {
        TimeSource::Rejected => physical.event.head.arrived_at.0,
        TimeSource::Device | TimeSource::Arrival => physical.event.head.physical_at.0,
    }
}

/// Rates that a property says follow its value (rule 4.5); whether one has changed.
pub(super) fn follow_rates(twin: &mut Twin, definition: &TwinType, at_us: i64) -> bool {
    let terms = definition.terms_of(twin);
    let mut has_changed = false;
    for (stream, rate) in (0u8..).zip(&terms.rates) {
        let Rate::Period { property, us_per_unit, .. } = rate else { continue };
        let number = match twin.shadow.value(&definition.model, *property) {
            Some(Value::Double(number)) => number,
            Some(Value::Integer(number)) => number as f64,
            _ => continue,
        };
        let per_us = 1.0 / (number * us_per_unit);
        // A period that is none says that nothing is expected.
        let per_us = if per_us.is_finite() && per_us > 0.0 { per_us } else { 0.0 };
        has_changed |= twin.entanglement.pace(stream, at_us, per_us, terms);
    }
    has_changed
}
