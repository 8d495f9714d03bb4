//! What the followers of a feed want, as whoever makes its messages sees it: a message that nobody wants need not be
//! made.
//!
//! ```text
//!   follower ── filter ──► wants, counted; kept a while after the last has left ──► interest, a copy for each worker
//! ```
//! A message has a class, which its maker numbers (0 to 31), and a key.

use bytes::Bytes;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long what a follower wanted goes on to be made after it has left, so that it may come back to it.
pub(super) const LINGER: Duration = Duration::from_secs(60);
/// Different filters that are told apart; with more, everything is made.
const FILTERS_MAX: usize = 10_000;

/// Which messages a follower wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Filter {
    /// The classes: bit 0 is class 0.
    pub classes: u32,
    /// The keys.
    pub keys: Keys,
}

/// Which keys a follower wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Keys {
    /// All that begin so; with nothing, all there are.
    Prefix(Bytes),
    /// This one.
    One(Bytes),
}

impl Filter {
    /// All messages.
    pub fn all() -> Self {
        Self { classes: u32::MAX, keys: Keys::Prefix(Bytes::new()) }
    }

    /// Whether it takes all that another one does.
    fn covers(&self, other: &Self) -> bool {
        let are_covered = match (&self.keys, &other.keys) {
            (Keys::Prefix(prefix), Keys::Prefix(key) | Keys::One(key)) => key.starts_with(prefix),
            (Keys::One(one), Keys::One(key)) => one == key,
            (Keys::One(_), Keys::Prefix(_)) => false,
        };
        are_covered && other.classes & !self.classes == 0
    }
}

/// What is wanted, in a form that answers quickly.
#[derive(Clone, Debug, Default)]
pub struct Interest {
    /// Classes of which all keys are wanted.
    all: u32,
    /// Classes by key.
    keys: HashMap<Bytes, u32>,
    /// Classes by what keys begin with, for each length of that.
    prefixes: Vec<(usize, HashMap<Bytes, u32>)>,
}

impl Interest {
    /// Whether somebody wants messages of a class and key.
    pub fn wants(&self, class: usize, key: &[u8]) -> bool {
        let is_in = |classes: &u32| classes & (1 << class) != 0;
        is_in(&self.all)
            || self.keys.get(key).is_some_and(is_in)
            || self.prefixes.iter().any(|(length, prefixes)| {
                key.get(..*length).and_then(|begin| prefixes.get(begin)).is_some_and(is_in)
            })
    }

    fn add(&mut self, filter: &Filter) {
        let classes = match &filter.keys {
            Keys::Prefix(prefix) if prefix.is_empty() => &mut self.all,
            Keys::One(key) => self.keys.entry(key.clone()).or_default(),
            Keys::Prefix(prefix) => {
                let length = prefix.len();
                let place = match self.prefixes.iter().position(|(other, _)| *other == length) {
                    Some(place) => place,
                    None => {
                        self.prefixes.push((length, HashMap::new()));
                        self.prefixes.len() - 1
                    }
                };
                self.prefixes[place].1.entry(prefix.clone()).or_default()
            }
        };
        *classes |= filter.classes;
    }
}

/// What is wanted, and since which message.
pub struct Gate {
    /// Raised whenever what is wanted changes; even while nothing is.
    version: AtomicU64,
    wants: Mutex<Wants>,
}

#[derive(Default)]
struct Wants {
    by_filter: HashMap<Filter, Want>,
    /// Made when it is asked for.
    interest: Option<Arc<Interest>>,
}

struct Want {
    followers: usize,
    left_at: Option<Instant>,
    /// Number of the first message that was made with it in force.
    since: u64,
}

/// A worker's copy of what is wanted, as new as the last look.
#[derive(Clone, Default)]
pub struct Seen {
    version: u64,
    interest: Arc<Interest>,
}

impl fmt::Debug for Gate {
    /// Says nothing that changes, as plans are compared by what they print.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self { version: AtomicU64::new(1), wants: Mutex::default() }
    }
}

impl Gate {
    /// What is wanted now. It costs next to nothing where that is what was seen before.
    pub fn look<'a>(&self, seen: &'a mut Seen) -> &'a Interest {
        let version = self.version.load(Ordering::Acquire);
        if seen.version != version {
            let mut wants = self.wants();
            let Wants { by_filter, interest } = &mut *wants;
            let interest = interest.get_or_insert_with(|| {
                let mut interest = Interest::default();
                match by_filter.len() > FILTERS_MAX {
                    true => interest.add(&Filter::all()),
                    false => by_filter.keys().for_each(|filter| interest.add(filter)),
                }
                Arc::new(interest)
            });
            *seen = Seen { version, interest: interest.clone() };
        }
        &seen.interest
    }

    /// Whether nothing is wanted.
    pub(super) fn is_shut(&self) -> bool {
        self.wants().by_filter.is_empty()
    }

    /// A follower comes, before the message with this number is made. Whether all that it wants was made from
    /// message `from` on.
    pub(super) fn enter(&self, filter: &Filter, from: u64, next: u64) -> bool {
        let mut wants = self.wants();
        let is_all = |(other, want): (&Filter, &Want)| want.since <= from && other.covers(filter);
        let had_all = from >= next || wants.by_filter.iter().any(is_all);
        match wants.by_filter.get_mut(filter) {
            Some(want) => (want.followers, want.left_at) = (want.followers + 1, None),
            None => {
                let want = Want { followers: 1, left_at: None, since: next };
                wants.by_filter.insert(filter.clone(), want);
                self.changed(&mut wants);
            }
        }
        had_all
    }

    /// A follower leaves.
    pub(super) fn leave(&self, filter: &Filter) {
        if let Some(want) = self.wants().by_filter.get_mut(filter) {
            want.followers -= 1;
            if want.followers == 0 {
                want.left_at = Some(Instant::now());
            }
        }
    }

    /// Forgets what nobody has wanted for a while.
    pub(super) fn forget(&self, now: Instant) {
        let mut wants = self.wants();
        let before = wants.by_filter.len();
        let is_over = |at: Instant| now.saturating_duration_since(at) > LINGER;
        wants.by_filter.retain(|_, want| !want.left_at.is_some_and(is_over));
        if wants.by_filter.len() < before {
            self.changed(&mut wants);
        }
    }

    fn changed(&self, wants: &mut Wants) {
        wants.interest = None;
        // Under the lock, so that who sees this version sees no older interest.
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    fn wants(&self) -> MutexGuard<'_, Wants> {
        self.wants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(classes: u32, keys: &str) -> Filter {
        let keys = match keys.strip_suffix('*') {
            Some(prefix) => Keys::Prefix(Bytes::copy_from_slice(prefix.as_bytes())),
            None => Keys::One(Bytes::copy_from_slice(keys.as_bytes())),
        };
        Filter { classes, keys }
    }

    /// Which of a few keys are wanted, for class 0 and class 1.
    fn wanted(gate: &Gate, seen: &mut Seen) -> String {
        let interest = gate.look(seen);
        let keys = ["a", "ab", "abc", "b"];
        let of = |class| keys.into_iter().filter(move |key| interest.wants(class, key.as_bytes()));
        format!("{} | {}", of(0).collect::<Vec<_>>().join(" "), of(1).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn what_is_wanted_is_the_sum_of_what_each_wants() {
        let (gate, mut seen) = (Gate::default(), Seen::default());
        assert_eq!(wanted(&gate, &mut seen), " | ");
        assert!(gate.is_shut());
        for (classes, keys, expected) in [
            (1, "b", "b | "),
            (2, "ab*", "b | ab abc"),
            (1, "abc*", "abc b | ab abc"),
            (2, "*", "abc b | a ab abc b"),
        ] {
            gate.enter(&filter(classes, keys), 0, 0);
            assert_eq!(wanted(&gate, &mut seen), expected);
        }
        gate.leave(&filter(2, "*"));
        assert_eq!(wanted(&gate, &mut seen), "abc b | a ab abc b", "it may come back");
        gate.forget(Instant::now() + 2 * LINGER);
        assert_eq!(wanted(&gate, &mut seen), "abc b | ab abc");
    }

    #[test]
    fn who_comes_back_is_told_whether_all_was_made() {
        let gate = Gate::default();
        assert!(gate.enter(&filter(3, "a*"), 5, 5), "there is nothing that it could have missed");
        assert!(gate.enter(&filter(1, "ab"), 7, 9), "the other one wanted that too");
        assert!(!gate.enter(&filter(1, "b"), 7, 9));
        assert!(!gate.enter(&filter(4, "ab"), 7, 9));
        assert!(!gate.enter(&filter(3, "a*"), 4, 9), "that was before");
    }

    #[test]
    fn too_many_filters_want_everything() {
        let (gate, mut seen) = (Gate::default(), Seen::default());
        (0..=FILTERS_MAX).for_each(|number| _ = gate.enter(&filter(1, &format!("x{number}")), 0, 0));
        assert_eq!(wanted(&gate, &mut seen), "a ab abc b | a ab abc b");
    }
}
