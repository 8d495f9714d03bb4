//! Step 4b, the life cycle of a twin (rule 5; the paper, section 3.2).
//!
//! ```text
//!            heard, up           settled, ODTE >= O_Th
//!  Unbound ────────► Bound ───────────────────────────► Entangled
//!     ▲                 │ settled, ODTE < O_Th            │   ▲
//!     │                 └─────────► Disentangled ◄────────┘   │
//!     │                                   └───────────────────┘
//!     └── presence down, silence, or all sources lost, from any of the three
//!
//!  any ── retired, job cancelled ──► Done ── dismissed ──► Stopped
//! ```

use serde::{Deserialize, Serialize};

use crate::snapshot::{SnapshotError, is_time, require};

/// Where in its life a twin is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Known, and not heard.
    #[default]
    Unbound,
    /// Heard, and not judged yet.
    Bound,
    /// ODTE is at least the threshold.
    Entangled,
    /// ODTE is below the threshold.
    Disentangled,
    /// No more updates are taken; still answers.
    Done,
    /// Dismissed.
    Stopped,
}

impl Phase {
    /// All phases, in the order of their numbers.
    pub const ALL: [Phase; 6] =
        [Phase::Unbound, Phase::Bound, Phase::Entangled, Phase::Disentangled, Phase::Done, Phase::Stopped];

    /// The word in listeners and archive.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Unbound => "unbound",
            Phase::Bound => "bound",
            Phase::Entangled => "entangled",
            Phase::Disentangled => "disentangled",
            Phase::Done => "done",
            Phase::Stopped => "stopped",
        }
    }

    /// Whether the physical twin is connected as far as is known.
    pub fn is_bound(self) -> bool {
        matches!(self, Phase::Bound | Phase::Entangled | Phase::Disentangled)
    }
}

/// Why a twin went from one phase to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A live update came.
    Heard,
    /// ODTE rose to the threshold.
    Fresh,
    /// ODTE fell below the threshold.
    Stale,
    /// Silence longer than `unbind_after`.
    Silent,
    /// All its sources were lost.
    SourceLost,
    /// It was retired, or its job cancelled.
    Retired,
    /// It was dismissed.
    Dismissed,
    /// Its presence says that it is up.
    Up,
    /// Its presence says that it is down.
    Down,
}

impl Reason {
    /// The word in listeners and archive.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Heard => "heard",
            Reason::Fresh => "fresh",
            Reason::Stale => "stale",
            Reason::Silent => "silent",
            Reason::SourceLost => "source_lost",
            Reason::Retired => "retired",
            Reason::Dismissed => "dismissed",
            Reason::Up => "up",
            Reason::Down => "down",
        }
    }
}

/// One step in the life of a twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// When, in digital time.
    pub at_us: i64,
    /// Where it was.
    pub from: Phase,
    /// Where it is now.
    pub to: Phase,
    /// Why.
    pub reason: Reason,
    /// The incident that it is part of (rule 5.5).
    pub incident: Option<u64>,
}

/// The verdict on ODTE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// At least the threshold.
    Entangled,
    /// Below it.
    Disentangled,
}

/// Rule 5.3: entangled is ODTE >= O_Th; on the way back up, O_Th + hysteresis.
pub fn judge(odte: f64, threshold: f64, hysteresis: f64, before: Judgement) -> Judgement {
    let limit = match before {
        Judgement::Entangled => threshold,
        Judgement::Disentangled => threshold + hysteresis,
    };
    if odte >= limit { Judgement::Entangled } else { Judgement::Disentangled }
}

/// The part of a twin's record that the life cycle owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LifeCycle {
    phase: Phase,
    /// When it came into its phase.
    since_us: i64,
    /// When it was last heard.
    heard_us: i64,
}

impl LifeCycle {
    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Since when.
    pub fn since_us(&self) -> i64 {
        self.since_us
    }

    /// When it was last heard; 0 where it never was.
    pub fn heard_us(&self) -> i64 {
        self.heard_us
    }

    /// Checks that what was decoded has its times.
    pub(crate) fn check(&self) -> Result<(), SnapshotError> {
        require(is_time(self.since_us) && is_time(self.heard_us), "its life went on at no time")
    }

    /// A live update came, or presence says that it is up: Unbound -> Bound (rule 5.1).
    pub fn heard(&mut self, at_us: i64, reason: Reason) -> Option<Transition> {
        self.heard_us = at_us;
        match self.phase {
            Phase::Unbound => Some(self.go(at_us, Phase::Bound, reason, None)),
            _ => None,
        }
    }

    /// When Bound ends, while it lasts (rule 5.2).
    pub fn settles_at(&self, settle_us: i64) -> Option<i64> {
        (self.phase == Phase::Bound).then(|| self.since_us.saturating_add(settle_us))
    }

    /// When silence unbinds the twin, if nothing more is heard (rule 5.4): it has then lasted
    /// longer than `unbind_after_us`.
    pub fn unbinds_at(&self, unbind_after_us: Option<i64>) -> Option<i64> {
        self.silent_from(unbind_after_us.filter(|_| self.phase.is_bound()))
    }

    /// From when on silence has lasted longer than `unbind_after_us`, whatever became of the twin.
    pub fn silent_from(&self, unbind_after_us: Option<i64>) -> Option<i64> {
        Some(self.heard_us.saturating_add(unbind_after_us?).saturating_add(1))
    }

    /// ODTE was measured: a bound twin that has settled is judged (rules 5.2, 5.3).
    pub fn measured(
        &mut self,
        at_us: i64,
        odte: f64,
        threshold: f64,
        hysteresis: f64,
        settle_us: i64,
    ) -> Option<Transition> {
        let before = match self.phase {
            // The first judgement has nothing to come back from.
            Phase::Bound if self.settles_at(settle_us)? <= at_us => Judgement::Entangled,
            Phase::Entangled => Judgement::Entangled,
            Phase::Disentangled => Judgement::Disentangled,
            _ => return None,
        };
        let (to, reason) = match judge(odte, threshold, hysteresis, before) {
            Judgement::Entangled => (Phase::Entangled, Reason::Fresh),
            Judgement::Disentangled => (Phase::Disentangled, Reason::Stale),
        };
        (to != self.phase).then(|| self.go(at_us, to, reason, None))
    }

    /// Any bound phase -> Unbound (rule 5.4).
    pub fn unbind(&mut self, at_us: i64, reason: Reason, incident: Option<u64>) -> Option<Transition> {
        self.phase.is_bound().then(|| self.go(at_us, Phase::Unbound, reason, incident))
    }

    /// Any phase -> Done (rule 5.6).
    pub fn retire(&mut self, at_us: i64) -> Option<Transition> {
        (self.phase < Phase::Done).then(|| self.go(at_us, Phase::Done, Reason::Retired, None))
    }

    /// Done -> Stopped (rule 5.6).
    pub fn dismiss(&mut self, at_us: i64) -> Option<Transition> {
        (self.phase == Phase::Done).then(|| self.go(at_us, Phase::Stopped, Reason::Dismissed, None))
    }

    fn go(&mut self, at_us: i64, to: Phase, reason: Reason, incident: Option<u64>) -> Transition {
        let from = std::mem::replace(&mut self.phase, to);
        self.since_us = at_us;
        Transition { at_us, from, to, reason, incident }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words: `heard`, `odte:0.95`, `silent`, `lost:7`, `retire`, `dismiss`, each at its second,
    /// as in `3 odte:0.95`. Settles 3 s, threshold 0.9, hysteresis 0.05, unbinds after 10 s.
    fn check(lines: &[(i64, &str, &str)]) {
        let mut life_cycle = LifeCycle::default();
        for (at, input, expected) in lines {
            let (word, value) = input.split_once(':').unwrap_or((input, "0"));
            let value: f64 = value.parse().expect("a number");
            let transition = match word {
                "heard" => life_cycle.heard(*at, Reason::Heard),
                "up" => life_cycle.heard(*at, Reason::Up),
                "down" => life_cycle.unbind(*at, Reason::Down, None),
                "odte" => life_cycle.measured(*at, value, 0.9, 0.05, 3),
                "silent" => life_cycle.unbind(*at, Reason::Silent, None),
                "lost" => life_cycle.unbind(*at, Reason::SourceLost, Some(value as u64)),
                "retire" => life_cycle.retire(*at),
                _ => life_cycle.dismiss(*at),
            };
            let found = transition.map_or_else(
                || "-".to_owned(),
                |one| {
                    let incident = one.incident.map_or(String::new(), |id| format!(" incident {id}"));
                    format!("{} -> {} {}{incident}", one.from.word(), one.to.word(), one.reason.word())
                },
            );
            assert_eq!(found, *expected, "{at} {input}");
        }
    }

    #[test]
    fn rule_5_1_a_live_update_binds() {
        check(&[(0, "odte:1", "-"), (1, "heard", "unbound -> bound heard"), (2, "heard", "-")]);
    }

    #[test]
    fn rule_5_2_bound_lasts_until_settled() {
        check(&[
            (1, "heard", "unbound -> bound heard"),
            (3, "odte:1", "-"),
            (4, "odte:0.9", "bound -> entangled fresh"),
        ]);
        check(&[(1, "heard", "unbound -> bound heard"), (4, "odte:0.89", "bound -> disentangled stale")]);
    }

    #[test]
    fn rule_5_3_entangled_above_the_threshold_with_hysteresis() {
        check(&[
            (0, "heard", "unbound -> bound heard"),
            (3, "odte:1", "bound -> entangled fresh"),
            (4, "odte:0.9", "-"),
            (5, "odte:0.8999", "entangled -> disentangled stale"),
            (6, "odte:0.94", "-"),
            (7, "odte:0.96", "disentangled -> entangled fresh"),
        ]);
    }

    #[test]
    fn rule_5_4_any_bound_phase_is_unbound() {
        check(&[
            (0, "silent", "-"),
            (0, "heard", "unbound -> bound heard"),
            (1, "silent", "bound -> unbound silent"),
            (2, "heard", "unbound -> bound heard"),
            (5, "odte:1", "bound -> entangled fresh"),
            (6, "lost:7", "entangled -> unbound source_lost incident 7"),
            (6, "lost:8", "-"),
        ]);
    }

    #[test]
    fn rules_5_1_and_5_4_presence_binds_and_unbinds() {
        check(&[
            (0, "down", "-"),
            (1, "up", "unbound -> bound up"),
            (2, "up", "-"),
            (5, "odte:1", "bound -> entangled fresh"),
            (6, "down", "entangled -> unbound down"),
            (7, "heard", "unbound -> bound heard"),
        ]);
    }

    #[test]
    fn rule_5_4_silence_unbinds_when_it_is_longer() {
        let mut life_cycle = LifeCycle::default();
        assert_eq!(life_cycle.unbinds_at(Some(10)), None);
        life_cycle.heard(5, Reason::Heard);
        assert_eq!(life_cycle.unbinds_at(Some(10)), Some(16));
        assert_eq!(life_cycle.unbinds_at(None), None);
    }

    #[test]
    fn rule_5_6_done_is_for_ever_but_for_dismissal() {
        check(&[
            (0, "dismiss", "-"),
            (0, "heard", "unbound -> bound heard"),
            (1, "retire", "bound -> done retired"),
            (2, "retire", "-"),
            (2, "heard", "-"),
            (3, "odte:1", "-"),
            (4, "silent", "-"),
            (5, "dismiss", "done -> stopped dismissed"),
            (6, "retire", "-"),
        ]);
    }
}
