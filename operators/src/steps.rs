//! Steps 2 to 4 of one update, in their order; and of an answer that came after its update had gone on.

use crate::batch::Event;
use crate::functions::{Augmentation, Emitted, Failed, Occasion, Outcome, Written};
use crate::handler::{self, Augmented, DigitalEvents, Physical};
use crate::roster::Facts;
use crate::shadowing::{Shadow, Shadowed, TimeSource, Touched};
use crate::time::DigitalTime;
use crate::twin::{Twin, TwinType};
use crate::waiting::{LateCall, SoFar, Wanted};

/// An update on its way through the steps.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// The event.
    pub event: Event<'a>,
    /// When it is consolidated.
    pub digital_at: DigitalTime,
    /// Whether it may bind the twin: one that came before its source was lost may not.
    pub binds: bool,
    /// What the roster says of the twin.
    pub facts: Facts<'a>,
}

/// What a step leaves to the next and to the caller; kept from update to update so that nothing is allocated.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Properties that the update took, and those that changed.
    pub touched: Touched,
    pub(crate) emitted: Vec<Emitted>,
    /// Functions that gave no good answer.
    pub failed: Vec<Failed>,
    /// Calls of functions outside that are to be made.
    pub wanted: Vec<Wanted>,
}

impl Scratch {
    fn clear(&mut self) {
        self.touched.clear();
        self.emitted.clear();
        self.failed.clear();
    }
}

/// What became of an update.
#[derive(Clone, Copy, Debug)]
pub struct Applied {
    /// What shadowing made of it.
    pub shadowed: Shadowed,
    /// Results of functions that were no value of their property.
    pub refused: u64,
    /// Calls that were not made, as enough answers are awaited already.
    pub skipped: u64,
}

/// Takes an update through shadowing, augmentation and the twin handler; `outcomes` are those of the calls that
/// it has waited for, each with the function's place among those outside. Ticks that are due before it have run.
pub fn apply<'o>(
    id: &str,
    twin: &mut Twin,
    definition: &TwinType,
    update: &Update<'_>,
    outcomes: impl Iterator<Item = (u16, &'o Outcome)>,
    scratch: &mut Scratch,
    out: &mut impl DigitalEvents,
) -> Applied {
    let Update { event, digital_at, binds, facts } = *update;
    let (shadow, augmentation) = (&mut twin.shadow, &mut twin.augmentation);
    let (shadowed, refused) = compute(shadow, augmentation, definition, (&event, facts), outcomes, scratch);
    let Scratch { touched, emitted, wanted, .. } = scratch;
    let skipped = match definition.functions.outside().is_empty() {
        true => 0,
        false => {
            let so_far = SoFar { shadow: &twin.shadow, augmentation: &twin.augmentation, facts };
            twin.waiting.call_late(so_far, &event, definition, &touched.taken, wanted)
        }
    };

    // Step 4: the twin handler.
    let physical = Physical { event, shadowed, digital_at };
    let augmented = Augmented { physical, changed: &touched.changed, emitted, binds };
    handler::consolidate(id, twin, definition, &augmented, out);
    Applied { shadowed, refused, skipped }
}

/// Steps 2 and 3 of an update, and how many results were not taken.
pub(crate) fn compute<'o>(
    shadow: &mut Shadow,
    augmentation: &mut Augmentation,
    definition: &TwinType,
    (event, facts): (&Event<'_>, Facts<'_>),
    outcomes: impl Iterator<Item = (u16, &'o Outcome)>,
    scratch: &mut Scratch,
) -> (Shadowed, u64) {
    scratch.clear();
    let Scratch { touched, emitted, failed, .. } = scratch;
    let model = &definition.model;

    // Step 2: shadowing.
    let shadowed = shadow.apply(event, model, definition.clock, touched);

    // Step 3: augmentation.
    let at_us = match shadowed.time_source {
        TimeSource::Rejected => event.head.arrived_at.0,
        TimeSource::Device | TimeSource::Arrival => event.head.physical_at.0,
    };
    let functions = &definition.functions;
    let mut written = Written { shadow, augmentation, touched, emitted, failed };
    let occasion = Occasion { event, type_name: &definition.name, at_us, facts };
    let refused = functions.run(model, &occasion, &mut written);
    outcomes.for_each(|(function, outcome)| functions.take(function, outcome, model, &mut written));
    (shadowed, refused)
}

/// Takes an answer whose update did not wait for it: where it writes something, the twin has a new state.
pub fn apply_late(
    id: &str,
    twin: &mut Twin,
    definition: &TwinType,
    (call, outcome): (&LateCall, &Outcome),
    digital_at: DigitalTime,
    scratch: &mut Scratch,
    out: &mut impl DigitalEvents,
) {
    scratch.clear();
    let Scratch { touched, emitted, failed, .. } = scratch;
    let (shadow, augmentation) = (&mut twin.shadow, &mut twin.augmentation);
    let mut written = Written { shadow, augmentation, touched, emitted, failed };
    definition.functions.take(call.function(), outcome, &definition.model, &mut written);
    let event = call.event.event(0);
    let shadowed = Shadowed {
        update: call.update,
        time_source: TimeSource::Arrival,
        stale: false,
        has_state: true,
        observed: false,
    };
    let physical = Physical { event, shadowed, digital_at };
    let augmented = Augmented { physical, changed: &touched.changed, emitted, binds: false };
    handler::recompute(id, twin, definition, &augmented, out);
}
