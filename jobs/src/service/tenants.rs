//! What the jobs of one tenant may have together: a file that whoever runs the server writes.
//!
//! ```yaml
//! acme: {jobs: 10, twins: 1000000, events: 50000/s, bytes: 10MB/s, functions_time: 20s}
//! ```

use std::path::Path;
use std::sync::Arc;

use dataflows::quota::{Quota, Rates};
use indexmap::IndexMap;
use serde::Deserialize;

use super::ServiceError;
use crate::definition::{Definition, bytes_per_second, messages_per_second, seconds_per_second};
use crate::document;
use crate::findings::{Finding, Findings, Severity};

/// What the jobs of a tenant may have together; without a bound where it says nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Most jobs.
    jobs: Option<usize>,
    /// Most twins: the sum of the limits of its jobs.
    twins: Option<u64>,
    /// Most messages that are worked off.
    #[serde(deserialize_with = "messages_per_second")]
    events: Option<f64>,
    /// Most bytes that are worked off.
    #[serde(deserialize_with = "bytes_per_second")]
    bytes: Option<f64>,
    /// Most of the time of functions outside.
    #[serde(deserialize_with = "seconds_per_second")]
    functions_time: Option<f64>,
}

/// The tenants of a server, by name.
#[derive(Clone, Debug, Default)]
pub struct Tenants {
    tenants: IndexMap<String, Tenant>,
}

#[derive(Clone, Debug)]
struct Tenant {
    settings: Settings,
    quota: Arc<Quota>,
}

impl Tenants {
    /// Reads the file; what is wrong with it is said with line and column.
    pub fn read(path: &Path) -> Result<Self, TenantsError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| TenantsError::Unreadable { path: name.clone(), error })?;
        Self::parse(&name, &text)
    }

    fn parse(name: &str, text: &str) -> Result<Self, TenantsError> {
        let invalid = |all: Vec<Finding>| TenantsError::Invalid(Findings::new(name, text, all));
        let document = document::parse(name, text).map_err(invalid)?;
        let read = document::read::<IndexMap<String, Settings>>(&document.root).map_err(|error| {
            invalid(vec![Finding {
                severity: Severity::Error,
                span: error.span.unwrap_or_default(),
                path: error.path.join("."),
                message: error.message,
                help: error.help,
            }])
        })?;
        let tenants = read.into_iter().map(|(name, settings)| {
            let Settings { events, bytes, functions_time, .. } = settings;
            let rates = Rates { messages: events, bytes, functions: functions_time };
            (name, Tenant { settings, quota: Arc::new(Quota::new(rates)) })
        });
        Ok(Self { tenants: tenants.collect() })
    }

    /// What all jobs of a tenant draw on.
    pub(super) fn quota(&self, tenant: Option<&str>) -> Option<Arc<Quota>> {
        self.tenants.get(tenant?).map(|tenant| tenant.quota.clone())
    }

    /// Whether a job may be there beside others.
    pub(super) fn check<'a>(
        &self,
        job: &Definition,
        others: impl Iterator<Item = &'a Definition>,
    ) -> Result<(), ServiceError> {
        let Some(name) = job.tenant.as_deref() else { return Ok(()) };
        let Some(tenant) = self.tenants.get(name) else {
            return match self.tenants.is_empty() {
                true => Ok(()),
                false => {
                    let known: Vec<&str> = self.tenants.keys().map(String::as_str).collect();
                    let known = known.join(", ");
                    Err(ServiceError::Refused(format!("there is no tenant `{name}`; there are {known}")))
                }
            };
        };
        let of_tenant: Vec<&Definition> =
            others.filter(|other| other.tenant.as_deref() == Some(name)).collect();
        let Settings { jobs, twins, .. } = &tenant.settings;
        if let Some(most) = jobs
            && of_tenant.len() >= *most
        {
            return Err(ServiceError::Refused(format!("tenant `{name}` has its {most} jobs")));
        }
        let asked: u64 = of_tenant.iter().map(|other| other.limits.twins).sum::<u64>() + job.limits.twins;
        if let Some(most) = twins
            && asked > *most
        {
            let detail = format!(
                "tenant `{name}` may have {most} twins, and its jobs ask for {asked}; lower `limits: {{twins: ..}}`"
            );
            return Err(ServiceError::Refused(detail));
        }
        Ok(())
    }
}

/// Why there are no tenants.
#[derive(Debug, thiserror::Error)]
pub enum TenantsError {
    /// The file is not there, or no text.
    #[error("cannot read {path}: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is not valid.
    #[error("the file of tenants is not valid: {} errors", .0.errors())]
    Invalid(Findings),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(tenant: &str, twins: u64) -> Definition {
        let mut job = Definition { tenant: Some(tenant.into()), ..Definition::default() };
        job.limits.twins = twins;
        job
    }

    #[test]
    fn a_tenant_has_what_its_line_says() {
        let text = "acme: {jobs: 2, twins: 100, events: 10/s, functions_time: 500ms}\nfree: {}\n";
        let tenants = Tenants::parse("tenants.yaml", text).expect("it is valid");
        let (small, large) = (job("acme", 40), job("acme", 90));
        let check = |new: &Definition, others: &[&Definition]| {
            tenants.check(new, others.iter().copied()).map_err(|error| error.to_string())
        };
        assert_eq!(check(&small, &[]), Ok(()));
        assert_eq!(check(&small, &[&small]), Ok(()));
        assert!(check(&small, &[&small, &small]).expect_err("three").contains("has its 2 jobs"));
        assert!(check(&large, &[&small]).expect_err("130").contains("may have 100 twins"));
        assert_eq!(check(&large, &[&job("free", 90)]), Ok(()));
        assert!(check(&job("nobody", 1), &[]).expect_err("unknown").contains("there are acme, free"));
        assert_eq!(Tenants::default().check(&job("nobody", 1), std::iter::empty()).ok(), Some(()));
        let quota = tenants.quota(Some("acme")).expect("it has a line");
        assert!(quota.functions().is_some() && tenants.quota(None).is_none());
    }

    #[test]
    fn a_wrong_file_is_told_with_its_place() {
        for (text, expected) in [
            ("acme: {events: 10}", "no rate of messages"),
            ("acme: {bytes: 0MB/s}", "no rate of bytes"),
            ("acme: {functions_time: 20/s}", "no time a second"),
            ("acme: {functions_time: 0s}", "no time a second"),
            ("acme: {cpus: 1}", "cpus"),
            ("- acme", "map"),
        ] {
            let Err(TenantsError::Invalid(findings)) = Tenants::parse("t.yaml", text) else {
                panic!("{text} is valid")
            };
            assert!(findings.plain().contains(expected), "{}", findings.plain());
        }
    }
}
