//! Other parameters for the twins of a class: those with certain attributes.

use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::settings::{EntanglementSettings, Terms};
use crate::decode::Word;
use crate::model::Model;
use crate::problem::{Problem, suggestion};

/// Parameters of the twins of a class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OverrideSettings {
    /// Attributes and their values: `{class: servo}`; all must be so.
    #[serde(rename = "where")]
    pub when: IndexMap<String, Word>,
    /// See [`EntanglementSettings::desired_timeliness`].
    #[serde(default, with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "time"))]
    pub desired_timeliness: Option<Duration>,
    /// See [`EntanglementSettings::threshold`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// See [`EntanglementSettings::hysteresis`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hysteresis: Option<f64>,
    /// See [`EntanglementSettings::settle`].
    #[serde(default, with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "time"))]
    pub settle: Option<Duration>,
    /// See [`EntanglementSettings::unbind_after`].
    #[serde(default, with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "time"))]
    pub unbind_after: Option<Duration>,
}

/// Most overrides of a type.
pub const OVERRIDES_MAX: usize = 64;

/// The terms of the twins of a class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Override {
    /// Numbers of attributes, and the texts that they must have.
    pub conditions: Vec<(u16, String)>,
    /// Their terms.
    pub terms: Terms,
}

impl Terms {
    /// The same with those of twins with certain attributes, or what is wrong with them.
    pub fn with_overrides(mut self, settings: &EntanglementSettings, model: &Model) -> Result<Self, Problem> {
        if settings.overrides.len() > OVERRIDES_MAX {
            let message = format!("{} overrides, at most {OVERRIDES_MAX}", settings.overrides.len());
            return Err(
                Problem::new(message, "put twins with the same parameters into one class").under("override")
            );
        }
        let mut overrides = Vec::new();
        for (index, one) in settings.overrides.iter().enumerate() {
            let compiled = self.compile_override(settings, one, model);
            overrides.push(compiled.map_err(|problem| problem.under(index.to_string()).under("override"))?);
        }
        self.overrides = overrides.into();
        Ok(self)
    }

    fn compile_override(
        &self,
        settings: &EntanglementSettings,
        one: &OverrideSettings,
        model: &Model,
    ) -> Result<Override, Problem> {
        let mut conditions = Vec::new();
        for (name, Word(value)) in &one.when {
            let place = model.attributes.iter().position(|(attribute, _)| attribute == name);
            let place = place.ok_or_else(|| {
                let known = model.attributes.iter().map(|(attribute, _)| attribute.as_str());
                let message = format!("there is no attribute `{name}`");
                Problem::new(message, suggestion(name, known)).under(name).under("where")
            })?;
            conditions.push((place as u16, value.clone()));
        }
        if conditions.is_empty() {
            return Err(
                Problem::new("it would be of all twins", "write where: {class: servo}").under("where")
            );
        }
        let settings = EntanglementSettings {
            desired_timeliness: one.desired_timeliness.unwrap_or(settings.desired_timeliness),
            threshold: one.threshold.unwrap_or(settings.threshold),
            hysteresis: one.hysteresis.unwrap_or(settings.hysteresis),
            settle: one.settle.or(settings.settle),
            unbind_after: one.unbind_after.or(settings.unbind_after),
            overrides: Vec::new(),
            ..settings.clone()
        };
        Ok(Override { conditions, terms: Terms::compile(&settings, &self.rates)? })
    }
}
