//! Several T_d at once (rule 4.6): profiles judge the same observations by other limits of lateness. One, `default`,
//! drives the life cycle; R and A are the same for all.

use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::settings::{Terms, at_least};
use super::window::{Observation, Window};
use super::{Entanglement, Measure};
use crate::problem::Problem;

/// Most profiles of a type, beside the default.
pub const PROFILES_MAX: usize = 8;

/// The name of the one that drives the life cycle.
pub const DEFAULT: &str = "default";

/// `entanglement.profiles.<name>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileSettings {
    /// T_d of whoever reads by this profile.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "time"))]
    pub desired_timeliness: Duration,
}

/// A profile, compiled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// T_d, microseconds.
    pub desired_timeliness_us: i64,
}

/// What a twin's record has of its profiles.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profiles {
    /// The observations as each judges them; one that has not observed yet has none.
    pub(super) windows: Vec<Window>,
    /// Verdicts on the last observation, a bit each.
    pub(super) last_on_time: u8,
}

/// Compiles profiles, or says what is wrong with them.
pub(super) fn compile(settings: &IndexMap<String, ProfileSettings>) -> Result<Box<[Profile]>, Problem> {
    if settings.len() > PROFILES_MAX {
        let message = format!("{} profiles, at most {PROFILES_MAX}", settings.len());
        return Err(Problem::new(message, "leave out those that nobody reads by"));
    }
    let profile = |(name, one): (&String, &ProfileSettings)| {
        if name == DEFAULT {
            let message = "`default` is the profile of the type itself";
            return Err(Problem::new(message, "write its desired_timeliness beside `profiles`").under(name));
        }
        let desired_timeliness_us = at_least(one.desired_timeliness, 1, "desired_timeliness");
        let desired_timeliness_us = desired_timeliness_us.map_err(|problem| problem.under(name))?;
        Ok(Profile { name: name.clone(), desired_timeliness_us })
    };
    settings.iter().map(profile).collect()
}

impl Entanglement {
    /// Adds an observation to all profiles; its lateness is none where its time was not believed.
    pub(crate) fn observe_profiles(
        &mut self,
        observation: Observation,
        lateness_us: Option<i64>,
        terms: &Terms,
    ) {
        if terms.profiles.is_empty() {
            return;
        }
        let Profiles { windows, last_on_time } = &mut self.expectation.get_or_insert_default().profiles;
        windows.resize_with(terms.profiles.len(), Window::default);
        for ((number, profile), window) in terms.profiles.iter().enumerate().zip(windows) {
            let on_time = lateness_us.is_some_and(|lateness_us| lateness_us <= profile.desired_timeliness_us);
            window.observe(Observation { on_time, ..observation }, terms.window_us, terms.rates.len());
            *last_on_time = *last_on_time & !(1 << number) | u8::from(on_time) << number;
        }
    }

    /// ODTE by each profile, where that of the default is this.
    pub fn measure_profiles<'a>(
        &'a self,
        at_us: i64,
        terms: &'a Terms,
        measure: &'a Measure,
    ) -> impl Iterator<Item = (&'a Profile, Measure)> + 'a {
        let profiles = self.expectation.as_ref().map(|expectation| &expectation.profiles);
        terms.profiles.iter().enumerate().map(move |(number, profile)| {
            let window = profiles.and_then(|profiles| profiles.windows.get(number));
            let counts = window.map_or_else(Default::default, |window| window.counts(at_us, terms.window_us));
            let was_on_time = profiles.is_some_and(|profiles| profiles.last_on_time >> number & 1 == 1);
            let timeliness = super::timeliness(&counts, was_on_time, terms);
            let odte = timeliness * measure.reliability * measure.availability;
            (profile, Measure { timeliness, odte, on_time: counts.on_time, ..*measure })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EntanglementSettings, Rate};
    use super::*;

    #[test]
    fn rule_4_6_profiles_judge_the_same_observations() {
        let settings: EntanglementSettings = serde_json::from_str(
            r#"{"window": "10s", "profiles": {"edge": {"desired_timeliness": "5ms"}, "batch": {"desired_timeliness": "1m"}}}"#,
        )
        .expect("well formed");
        let terms = Terms::compile(&settings, &[Rate::None]).expect("good");
        let mut entanglement = Entanglement::default();
        let odte = |entanglement: &Entanglement, at_us| {
            let measure = entanglement.measure(at_us, &terms);
            let profiles = entanglement.measure_profiles(at_us, &terms, &measure);
            profiles
                .map(|(profile, one)| format!("{} {:.2}", profile.name, one.odte))
                .collect::<Vec<_>>()
                .join(", ")
        };
        assert_eq!(odte(&entanglement, 0), "edge 0.00, batch 0.00");
        for (second, lateness_us) in (1i64..).zip([Some(1_000), Some(20_000), None, Some(30_000_000)]) {
            let at_us = second * 1_000_000;
            entanglement.bind(at_us);
            let observation = Observation { at_us, transport_us: 0, compute_us: 0, on_time: true, stream: 0 };
            entanglement.observe(observation, &terms);
            entanglement.observe_profiles(observation, lateness_us, &terms);
        }
        assert_eq!(odte(&entanglement, 4_000_000), "edge 0.25, batch 0.75");
        assert_eq!(
            odte(&entanglement, 14_000_000),
            "edge 0.00, batch 1.00",
            "the first has one left, which was late"
        );
        assert_eq!(odte(&entanglement, 99_000_000), "edge 0.00, batch 1.00", "verdicts on the last");
    }

    #[test]
    fn bad_profiles_are_refused() {
        for (profiles, expected) in [
            (r#"{"default": {"desired_timeliness": "1s"}}"#, "`default` is the profile of the type itself"),
            (r#"{"x": {"desired_timeliness": "0s"}}"#, "too short"),
        ] {
            let profiles = serde_json::from_str(profiles).expect("well formed");
            let problem = compile(&profiles).expect_err("it is bad");
            assert!(problem.message.contains(expected), "{problem:?}");
        }
    }
}
