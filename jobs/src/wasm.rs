//! A module in WebAssembly as a function of twins: found good when its job is checked, and made ready by each worker
//! for itself when it first calls it. What a function that is not called costs is its source.
//!
//! ```text
//!   worker 0 ──► slot 0 [instance ─ module] ┐
//!   worker 1 ──► slot 1 [instance ─ module] ├ source, settings
//!   worker 2 ──► slot 2 [  not called yet ] ┘
//! ```
//! Workers could share a module and have instances only. But all calls of a module take their stack from one place,
//! behind one lock: of two threads that call at once, a call takes 370 ns then, and 190 with modules of their own, as
//! it does on one thread.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use connectors::function::Failure;
use connectors::function::wasm::{Abi, Instance, Module, WasmError, WasmSettings};
use operators::functions::{Host, HostHandle, Takes};
use operators::problem::Problem;

use crate::checks::functions::split;
use crate::definition::functions::Sourced;

/// Slots of a module. Where there are more workers, some share one, and wait for each other.
const SLOTS: usize = 16;

/// Reads and compiles a module, or says what is wrong with it.
pub(crate) fn host(Sourced { code, settings }: &Sourced<WasmSettings>) -> Result<HostHandle, Problem> {
    let source = bytes(code)?;
    let takes = match Module::compile(&source, settings).map_err(|error| problem(&error))?.abi() {
        Abi::Numbers { inputs } => Takes::Numbers(inputs),
        Abi::Bytes => Takes::Body,
    };
    let slots = std::iter::repeat_with(Slot::default).take(SLOTS).collect();
    Ok(HostHandle(Arc::new(WasmHost { source, settings: settings.clone(), takes, slots })))
}

/// A text has parentheses, and base64 has none.
fn bytes(code: &str) -> Result<Vec<u8>, Problem> {
    if code.contains('(') {
        return Ok(code.into());
    }
    let dense: String = code.split_ascii_whitespace().collect();
    BASE64_STANDARD.decode(&dense).map_err(|error| {
        let message =
            format!("it is neither the text of a module, `(module ..)`, nor base64 of one: {error}");
        Problem::new(message, "write {file: quality.wasm}, or what `base64 quality.wasm` prints")
            .under("code")
    })
}

fn problem(error: &WasmError) -> Problem {
    let text = error.to_string();
    match error {
        WasmError::NeedsFeature => split(&text),
        // It begins with the key that is meant.
        WasmError::Settings(reason) => {
            let (key, _) = reason.split_once(": ").unwrap_or_default();
            if key.is_empty() { split(reason) } else { split(reason).under(key) }
        }
        WasmError::Invalid(_) => {
            let help = "mend the text, or name a file that a compiler for wasm32 has made";
            Problem::new(text, help).under("code")
        }
        WasmError::TooLarge { .. }
        | WasmError::Import { .. }
        | WasmError::Exports(_)
        | WasmError::Start(_) => split(&text).under("code"),
    }
}

/// A source with the instances that threads call it by.
struct WasmHost {
    source: Vec<u8>,
    settings: WasmSettings,
    takes: Takes,
    slots: Box<[Slot]>,
}

/// The instance of a thread, on a cache line of its own: a worker does not wait for what another one writes.
#[derive(Default)]
#[repr(align(64))]
struct Slot(Mutex<Option<Instance>>);

impl WasmHost {
    fn call<T>(&self, call: impl FnOnce(&mut Instance) -> Result<T, Failure>) -> Result<T, String> {
        let slot = &self.slots[thread_number() % self.slots.len()];
        let mut slot = slot.0.lock().unwrap_or_else(PoisonError::into_inner);
        let instance = match &mut *slot {
            Some(instance) => instance,
            none => none.insert(self.instance()?),
        };
        call(instance).map_err(|failure| failure.to_string())
    }

    fn instance(&self) -> Result<Instance, String> {
        let module = Module::compile(&self.source, &self.settings);
        module.map(|module| module.instance()).map_err(|error| error.to_string())
    }
}

impl Host for WasmHost {
    fn kind(&self) -> &'static str {
        "wasm"
    }

    fn takes(&self) -> Takes {
        self.takes
    }

    fn call_numbers(&self, inputs: &[f64]) -> Result<Option<f64>, String> {
        self.call(|instance| instance.call_numbers(inputs))
    }

    fn call_body(&self, body: &[u8], answer: &mut Vec<u8>) -> Result<(), String> {
        self.call(|instance| instance.call_bytes(body, answer))
    }
}

/// The number of a thread that calls modules, for as long as it lives: the least that is free, so that as many threads
/// as there are slots have one each, however often they come and go.
struct ThreadNumber(usize);

/// Numbers that are taken.
static TAKEN: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

impl ThreadNumber {
    fn take() -> Self {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let free = (0..).find(|number| !taken.contains(number)).expect("there are more numbers than threads");
        taken.insert(free);
        Self(free)
    }
}

impl Drop for ThreadNumber {
    fn drop(&mut self) {
        TAKEN.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

fn thread_number() -> usize {
    thread_local! {
        static NUMBER: ThreadNumber = ThreadNumber::take();
    }
    NUMBER.with(|number| number.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with how many calls its instance has had; traps where it is given nothing.
    const COUNT: &str = r#"(module
      (global $calls (mut f64) (f64.const 0))
      (func (export "call") (param $given f64) (result f64)
        (if (f64.eq (local.get $given) (f64.const 0)) (then unreachable))
        (global.set $calls (f64.add (global.get $calls) (f64.const 1)))
        (global.get $calls)))"#;

    fn host_of(code: &str) -> Result<HostHandle, Problem> {
        host(&Sourced { code: code.into(), settings: WasmSettings::default() })
    }

    #[cfg(feature = "wasm")]
    #[test]
    fn each_thread_has_an_instance_and_a_new_one_after_a_trap() {
        let host = host_of(COUNT).expect("it is good").0;
        assert_eq!(host.takes(), Takes::Numbers(1));
        let call = |host: &Arc<dyn Host>, given| host.call_numbers(&[given]);
        assert_eq!([call(&host, 1.0), call(&host, 1.0)], [Ok(Some(1.0)), Ok(Some(2.0))]);
        let other = host.clone();
        let there = std::thread::spawn(move || [call(&other, 1.0), call(&other, 1.0)]);
        assert_eq!(there.join().expect("it does not panic"), [Ok(Some(1.0)), Ok(Some(2.0))]);
        let reason = call(&host, 0.0).expect_err("it traps");
        assert!(reason.starts_with("trap: "), "{reason}");
        assert_eq!(call(&host, 1.0), Ok(Some(1.0)));
    }

    #[cfg(feature = "wasm")]
    #[test]
    fn more_threads_than_slots_share_them() {
        let host = host_of(COUNT).expect("it is good").0;
        let barrier = Arc::new(std::sync::Barrier::new(2 * SLOTS));
        let threads: Vec<_> = (0..2 * SLOTS)
            .map(|_| {
                let (host, barrier) = (host.clone(), barrier.clone());
                std::thread::spawn(move || {
                    thread_number();
                    barrier.wait();
                    let call = |_| host.call_numbers(&[1.0]).expect("it works").expect("a number");
                    (0..100).map(call).collect::<Vec<f64>>()
                })
            })
            .collect();
        let counts = threads.into_iter().flat_map(|one| one.join().expect("it does not panic"));
        let mut counts: Vec<u64> = counts.map(|count| count as u64).collect();
        counts.sort_unstable();
        assert_eq!(counts.len(), 200 * SLOTS);
        // Each instance has counted from 1 on without a gap: no call was lost or counted elsewhere.
        let times: Vec<usize> = counts.chunk_by(|a, b| a == b).map(<[u64]>::len).collect();
        assert!(times[0] <= SLOTS && times.is_sorted_by(|before, after| before >= after), "{times:?}");
        assert_eq!(counts.last().copied(), Some(times.len() as u64));
    }

    #[cfg(not(feature = "wasm"))]
    #[test]
    fn a_program_without_it_refuses_the_job() {
        let problem = host_of(COUNT).expect_err("it is not there");
        assert_eq!(problem.message, "this program is built without WebAssembly");
        assert_eq!(problem.help, "build with `--features wasm`");
    }
}
