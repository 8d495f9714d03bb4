//! `twinloom test JOB.yaml`: runs the cases beside a job.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::Failure;
use crate::cases::{self, CasesError, Verdict};

/// Arguments of `test`.
#[derive(Debug, Args)]
pub(super) struct TestArguments {
    /// The job file
    #[arg(value_name = "JOB.yaml")]
    job: PathBuf,
    /// The file of cases [default: JOB.test.yaml]
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
    /// Only cases whose name has this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Print a JSON list of {case, messages, differences} to standard output
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(arguments: &TestArguments) -> Result<(), Failure> {
    let TestArguments { job, cases, filter, json } = arguments;
    let file = cases.clone().unwrap_or_else(|| beside(job));
    let verdicts = cases::run_all(job, &file, filter.as_deref()).map_err(|error| match error {
        CasesError::Job(error) => Failure::of_job(error, *json),
        error => Failure::of(error),
    })?;
    if verdicts.is_empty() {
        let reason =
            filter.as_ref().map_or("the file has none".to_owned(), |text| format!("none is called {text}"));
        return Err(Failure::Failed(format!("no case in {}: {reason}", file.display())));
    }
    let failed = verdicts.iter().filter(|one| !one.differences.is_empty()).count();
    match json {
        true => println!("{}", json!(verdicts)),
        false => show(&file, &verdicts, failed),
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failure::Failed(format!("{failed} of {} cases failed", verdicts.len()))),
    }
}

fn show(file: &Path, verdicts: &[Verdict], failed: usize) {
    for Verdict { case, messages, differences } in verdicts {
        let word = if differences.is_empty() { "ok    " } else { "FAILED" };
        println!("{word}  {case} ({messages} messages)");
        for difference in differences {
            println!("  {}:{}: {}", file.display(), difference.line, difference.path);
            println!("    expected {}", difference.expected);
            println!("    found    {}", difference.found.replace("\n", "\n            "));
        }
    }
    if failed == 0 {
        println!("{} passed", verdicts.len());
    }
}

/// `first.test.yaml` beside `first.yaml`.
fn beside(job: &Path) -> PathBuf {
    job.with_extension("test.yaml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_stand_beside_the_job() {
        for (job, cases) in [("first.yaml", "first.test.yaml"), ("a/line.v2.yml", "a/line.v2.test.yaml")] {
            assert_eq!(beside(Path::new(job)), Path::new(cases));
        }
    }
}
