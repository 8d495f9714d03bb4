//! Functions that are more than settings: what runs them says what is wrong with these, and with their sources.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use connectors::function::python::{self, PythonError, PythonSettings};
use operators::functions::{FunctionKind, FunctionSpec, TrialSpec};
use operators::problem::Problem;

use crate::definition::functions::{FunctionDefinition, KindDefinition, Sourced};
use crate::definition::secrets::is_pending;
use crate::wasm;

/// What of a function concerns the twin. A module is compiled for it, or it is said what is wrong with that.
pub(super) fn spec(function: &FunctionDefinition) -> Result<FunctionSpec, Problem> {
    let kind = match &function.kind {
        KindDefinition::Inside(settings) => FunctionKind::Inside(settings.clone()),
        KindDefinition::Wasm(module) => {
            let host = wasm::host(module).map_err(|problem| problem.under("wasm"))?;
            match function.call.spread {
                true => {
                    host.0.takes().check(&function.call)?;
                    FunctionKind::Outside("wasm")
                }
                false => FunctionKind::Hosted(host),
            }
        }
        KindDefinition::Http(_) => FunctionKind::Outside("http"),
        KindDefinition::Python(_) => FunctionKind::Outside("python"),
    };
    let trial = function.trial.as_ref().map(|trial| {
        let function = spec(&trial.function)?;
        Ok(Box::new(TrialSpec { percent: trial.percent, function }))
    });
    let (call, version) = (function.call.clone(), function.version);
    Ok(FunctionSpec { kind, call, version, trial: trial.transpose()? })
}

/// Checks what of a function outside can be known before it is called.
pub(super) fn check(function: &FunctionDefinition) -> Result<(), Problem> {
    if let Some(trial) = &function.trial {
        check(&trial.function)?;
    }
    if function.call.spread && matches!(function.kind, KindDefinition::Http(_) | KindDefinition::Python(_)) {
        let message = format!("`{}` is called beside the workers anyway", function.kind.word());
        return Err(Problem::new(message, "leave out `spread`").under("spread"));
    }
    match &function.kind {
        KindDefinition::Inside(_) | KindDefinition::Wasm(_) => Ok(()),
        // It is checked where the job runs.
        KindDefinition::Http(settings) if is_pending(&settings.url) => Ok(()),
        KindDefinition::Http(settings) => settings.check().map_err(|reason| split(&reason).under("http")),
        KindDefinition::Python(python) => check_python(python).map_err(|problem| problem.under("python")),
    }
}

/// Loads a source once, in a process of its own; what was good is not loaded again.
fn check_python(Sourced { code, settings }: &Sourced<PythonSettings>) -> Result<(), Problem> {
    static GOOD: Mutex<Option<HashSet<u64>>> = Mutex::new(None);
    let mut hasher = DefaultHasher::new();
    (code, format!("{settings:?}")).hash(&mut hasher);
    let key = hasher.finish();
    let good = || GOOD.lock().unwrap_or_else(PoisonError::into_inner);
    if good().as_ref().is_some_and(|good| good.contains(&key)) {
        return Ok(());
    }
    match python::check(code, settings) {
        Ok(()) => {
            good().get_or_insert_default().insert(key);
            Ok(())
        }
        Err(error @ PythonError::Source { .. }) => {
            let help = "mend the source; a function is `def f(state): return {...}`";
            Err(Problem::new(error.to_string(), help).under("code"))
        }
        Err(error) => Err(split(&error.to_string())),
    }
}

/// `what is wrong; what to write instead`, in its two parts.
pub(crate) fn split(reason: &str) -> Problem {
    match reason.rsplit_once("; ") {
        Some((message, help)) => Problem::new(message, help),
        None => Problem::new(reason, "see the docs on functions"),
    }
}
