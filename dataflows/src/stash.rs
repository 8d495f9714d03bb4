//! Events that are not to be worked off yet: recorded ones whose time is not closed, and live ones that overtook
//! the boundary of a checkpoint.

use operators::batch::EventBatch;

/// A batch that waits: its engine time, its source, and itself.
pub(crate) type Stashed = (u64, u16, EventBatch);

/// Events before an instant: when each is taken, its batch and its place there.
pub(crate) fn before(stash: &[Stashed], limit_us: i64) -> Vec<(i64, usize, usize)> {
    let mut order = Vec::new();
    for (batch, (time, _, events)) in stash.iter().enumerate() {
        // Nothing of it is closed: the operator is activated far more often than time goes on.
        if *time as i64 >= limit_us {
            continue;
        }
        for (index, head) in events.heads().iter().enumerate() {
            // An arrival that goes back in its file is taken at the time that it had come to.
            let at_us = head.arrived_at.0.max(*time as i64);
            if at_us < limit_us {
                order.push((at_us, batch, index));
            }
        }
    }
    order
}

/// What of the stash is at or after the limit.
pub(crate) fn still_open(stash: Vec<Stashed>, limit_us: i64) -> Vec<Stashed> {
    let mut open = Vec::new();
    for (time, source, events) in stash {
        let is_open = |at_us: i64| at_us.max(time as i64) >= limit_us;
        let count = events.heads().iter().filter(|head| is_open(head.arrived_at.0)).count();
        if count == events.len() {
            open.push((time, source, events));
        } else if count > 0 {
            let mut rest = EventBatch::default();
            for event in events.events().filter(|event| is_open(event.head.arrived_at.0)) {
                rest.push(event);
            }
            open.push((time, source, rest));
        }
    }
    open
}
