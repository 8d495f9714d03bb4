//! A birth certificate: which metrics an edge node or a device has, what type they are of, and by which numbers they
//! are called from then on.

use std::collections::HashSet;
use std::sync::Arc;

use super::payload::{Metric, Payload};

/// Names that are kept without looking whether somebody still uses them.
const NAMES_SPARED: usize = 1_024;

/// What a birth certificate says of its metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Certificate {
    /// By name.
    metrics: Vec<Known>,
    /// Which metric an alias stands for, by alias.
    aliases: Vec<(u64, u32)>,
}

/// A metric that was born.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    pub name: Arc<str>,
    /// Its number in the specification; 0 where it is not said.
    pub datatype: u8,
}

impl Certificate {
    /// The certificate that a payload is.
    pub fn of(payload: &Payload, bytes: &[u8], names: &mut Names) -> Result<Self, String> {
        let born = |metric: &Metric| {
            let name = metric.name.ok_or("a metric of the birth has no name")?.text(bytes);
            // Datatypes that do not fit are none that the specification knows.
            Ok((
                Known { name: names.one(name), datatype: u8::try_from(metric.datatype).unwrap_or(u8::MAX) },
                metric.alias,
            ))
        };
        let metrics: Result<Vec<_>, String> = payload.metrics.iter().map(born).collect();
        Self::from_metrics(metrics?)
    }

    /// The certificate with these metrics and their aliases.
    pub fn from_metrics(mut metrics: Vec<(Known, Option<u64>)>) -> Result<Self, String> {
        metrics.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        if let Some([(one, _), _]) = metrics.windows(2).find(|pair| pair[0].0.name == pair[1].0.name) {
            return Err(format!("`{}` stands twice in the birth", one.name));
        }
        let with_alias = metrics.iter().enumerate();
        let mut aliases: Vec<(u64, u32)> =
            with_alias.filter_map(|(index, (_, alias))| Some(((*alias)?, index as u32))).collect();
        aliases.sort_unstable();
        if let Some([(alias, one), (_, other)]) = aliases.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let name = |index: u32| &metrics[index as usize].0.name;
            return Err(format!("alias {alias} stands for `{}` and for `{}`", name(*one), name(*other)));
        }
        Ok(Self { metrics: metrics.into_iter().map(|(known, _)| known).collect(), aliases })
    }

    /// How many metrics there are.
    pub fn len(&self) -> usize {
        self.metrics.len()
    }

    /// The metric with this number.
    pub fn get(&self, index: u32) -> Option<&Known> {
        self.metrics.get(index as usize)
    }

    /// The names of the metrics.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.metrics.iter().map(|known| &*known.name)
    }

    /// The metrics and their aliases.
    pub fn metrics(&self) -> impl Iterator<Item = (&Known, Option<u64>)> {
        let mut aliases = vec![None; self.metrics.len()];
        for (alias, index) in &self.aliases {
            aliases[*index as usize] = Some(*alias);
        }
        self.metrics.iter().zip(aliases)
    }

    /// The number of the metric that is meant by a name or an alias.
    pub fn find(&self, metric: &Metric, bytes: &[u8]) -> Option<u32> {
        match (metric.name, metric.alias) {
            (Some(name), _) => {
                let name = name.text(bytes);
                let found = self.metrics.binary_search_by(|known| (*known.name).cmp(name));
                found.ok().map(|index| index as u32)
            }
            (None, Some(alias)) => {
                let found = self.aliases.binary_search_by_key(&alias, |(alias, _)| *alias);
                found.ok().map(|index| self.aliases[index].1)
            }
            (None, None) => None,
        }
    }
}

/// Names of metrics, each once in memory: the devices of a plant are much alike.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    known: HashSet<Arc<str>>,
    /// How many were in use when it was last looked.
    used: usize,
}

impl Names {
    /// The name, as it is kept.
    pub fn one(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        if self.known.len() > 2 * self.used + NAMES_SPARED {
            self.known.retain(|name| Arc::strong_count(name) > 1);
            self.used = self.known.len();
        }
        let name: Arc<str> = name.into();
        self.known.insert(name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nobody_uses_are_forgotten() {
        let mut names = Names::default();
        let kept = names.one("kept");
        for number in 0..10 * NAMES_SPARED {
            names.one(&number.to_string());
        }
        assert!(names.known.len() <= 2 * NAMES_SPARED, "{}", names.known.len());
        assert!(Arc::ptr_eq(&kept, &names.one("kept")));
    }

    #[test]
    fn a_certificate_means_one_thing() {
        let known = |name: &str| Known { name: name.into(), datatype: 10 };
        let of = |metrics: &[(&str, Option<u64>)]| {
            Certificate::from_metrics(metrics.iter().map(|(name, alias)| (known(name), *alias)).collect())
        };
        let good = of(&[("b", Some(7)), ("a", None), ("c", Some(1))]).expect("a certificate");
        assert_eq!(good.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        let by_alias = |alias| good.find(&Metric { alias: Some(alias), ..Metric::default() }, b"");
        assert_eq!([by_alias(7), by_alias(1), by_alias(2)], [Some(1), Some(2), None]);
        assert_eq!(good.metrics().map(|(_, alias)| alias).collect::<Vec<_>>(), [None, Some(7), Some(1)]);
        assert_eq!(of(&[("a", None), ("a", None)]), Err("`a` stands twice in the birth".into()));
        assert_eq!(of(&[("a", Some(3)), ("b", Some(3))]), Err("alias 3 stands for `a` and for `b`".into()));
    }
}
