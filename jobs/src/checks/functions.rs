//! Functions outside: what runs them says what is wrong with their settings.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use connectors::function::python::{self, PythonError};
use operators::problem::Problem;

use crate::definition::functions::{FunctionDefinition, KindDefinition, PythonDefinition};
use crate::definition::secrets::is_pending;

/// Checks what of a function can be known before it is called.
pub(super) fn check(function: &FunctionDefinition) -> Result<(), Problem> {
    match &function.kind {
        KindDefinition::Inside(_) => Ok(()),
        // It is checked where the job runs.
        KindDefinition::Http(settings) if is_pending(&settings.url) => Ok(()),
        KindDefinition::Http(settings) => settings.check().map_err(|reason| split(&reason).under("http")),
        KindDefinition::Python(python) => check_python(python).map_err(|problem| problem.under("python")),
    }
}

/// Loads a source once, in a process of its own; what was good is not loaded again.
fn check_python(PythonDefinition { code, settings }: &PythonDefinition) -> Result<(), Problem> {
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
fn split(reason: &str) -> Problem {
    match reason.rsplit_once("; ") {
        Some((message, help)) => Problem::new(message, help),
        None => Problem::new(reason, "see the docs on functions"),
    }
}
