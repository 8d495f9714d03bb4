//! The last events of twins, for those who read a twin: few a twin, of the twins that had some last, in memory only.
//! The archive has all of them.

use std::collections::{HashMap, VecDeque};

use operators::handler::{Happened, HappenedValue, Of};
use operators::view::{Event, Held};

/// Events that are kept of a twin.
const EVENTS_MAX: usize = 5;
/// Bytes of a value beyond which it is not kept.
const VALUE_BYTES_MAX: usize = 1_024;
/// Twins after which those that had no event for the longest time are forgotten.
const TWINS_MAX: usize = 4_096;

/// What a worker keeps of events.
#[derive(Debug, Default)]
pub struct LastEvents {
    young: HashMap<String, VecDeque<Event>>,
    /// Twins that had no event since as many others had one.
    old: HashMap<String, VecDeque<Event>>,
}

impl LastEvents {
    /// An event has happened.
    pub fn add(&mut self, of: Of<'_>, happened: &Happened<'_>) {
        let value = match happened.value {
            HappenedValue::Json(json) => (json.len() <= VALUE_BYTES_MAX).then(|| Held::Json(json.to_owned())),
            HappenedValue::Number(number) => Some(Held::Double(number)),
        };
        let event = Event {
            at_us: happened.digital_at.0,
            update: of.twin.shadow.update(),
            revision: of.twin.handled.revision,
            name: of.definition.model.events[usize::from(happened.event)].clone(),
            value,
        };
        self.put(of.id, event);
    }

    fn put(&mut self, id: &str, event: Event) {
        let events = match self.young.get_mut(id) {
            Some(events) => events,
            None => {
                if self.young.len() >= TWINS_MAX {
                    self.old = std::mem::take(&mut self.young);
                }
                let before = self.old.remove(id).unwrap_or_default();
                self.young.entry(id.to_owned()).or_insert(before)
            }
        };
        if events.len() == EVENTS_MAX {
            events.pop_front();
        }
        events.push_back(event);
    }

    /// The last ones of a twin, newest last.
    pub fn of(&self, id: &str) -> Vec<Event> {
        let events = self.young.get(id).or_else(|| self.old.get(id));
        events.into_iter().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(update: u64) -> Event {
        Event { at_us: 0, update, revision: update, name: "hot".into(), value: None }
    }

    #[test]
    fn the_newest_few_of_the_last_twins_are_kept() {
        let mut last = LastEvents::default();
        (0..9).for_each(|update| last.put("a", event(update)));
        let updates = |last: &LastEvents, id: &str| -> Vec<u64> {
            last.of(id).iter().map(|event| event.update).collect()
        };
        assert_eq!(updates(&last, "a"), [4, 5, 6, 7, 8]);
        assert_eq!(updates(&last, "b"), [0; 0]);
        (0..TWINS_MAX).for_each(|number| last.put(&format!("p-{number}"), event(1)));
        last.put("a", event(9));
        assert_eq!(updates(&last, "a"), [5, 6, 7, 8, 9], "it was old, and is young again");
        (0..2 * TWINS_MAX).for_each(|number| last.put(&format!("q-{number}"), event(1)));
        assert_eq!(updates(&last, "a"), [0; 0]);
        assert!(last.young.len() + last.old.len() <= 2 * TWINS_MAX);
    }
}
