//! What calls a module: a store with its memory, which is thrown away after a trap.

use std::fmt;
use std::ops::ControlFlow;
use std::time::Instant;

use serde_json::value::RawValue;
use wasmi::{Func, Memory, ResumableCall, Store, StoreLimits, TrapCode, Val};

use super::module::{Module, reason};
use super::{Abi, WasmSettings};
use crate::function::{Failure, FailureKind};

/// Fuel that is used before the clock is looked at: about a millisecond of work.
const SLICE_FUEL: u64 = 1_000_000;

/// Calls a module, one call at a time. Each thread has its own; dropped, it is kept for the next one.
pub struct Instance {
    module: Module,
    /// `None` before the first call, and after a call that it was not to survive.
    live: Option<Live>,
}

/// A store with what is called in it.
pub(super) struct Live {
    store: Store<StoreLimits>,
    call: Func,
    /// Where the module takes bytes.
    bytes: Option<(Memory, Func)>,
    inputs: Vec<Val>,
    outputs: [Val; 1],
}

impl Instance {
    pub(super) fn new(module: Module, live: Option<Live>) -> Self {
        Self { module, live }
    }

    /// Calls a module that takes numbers, with as many as it takes; NaN where there is none. Gives none where it
    /// gives NaN.
    pub fn call_numbers(&mut self, inputs: &[f64]) -> Result<Option<f64>, Failure> {
        let Abi::Numbers { inputs: count } = self.module.abi() else { return Err(wrong_abi("bytes")) };
        if inputs.len() != count {
            let message = format!("it takes {count} numbers and was given {}", inputs.len());
            return Err(Failure { kind: FailureKind::Error, message });
        }
        let mut live = self.take()?;
        live.inputs.clear();
        live.inputs.extend(inputs.iter().map(|input| Val::F64((*input).into())));
        let mut budget = Budget::new(self.module.settings());
        live.outputs = [Val::F64(f64::NAN.into())];
        live.run(live.call, &mut budget)?;
        let output = live.outputs[0].f64().map_or(f64::NAN, f64::from);
        self.live = Some(live);
        Ok(Some(output).filter(|output| !output.is_nan()))
    }

    /// Calls a module that takes bytes, with a JSON object. Puts another one into `answer`, in place of what it
    /// had; `{}` where the module gives none.
    pub fn call_bytes(&mut self, body: &[u8], answer: &mut Vec<u8>) -> Result<(), Failure> {
        answer.clear();
        if self.module.abi() != Abi::Bytes {
            return Err(wrong_abi("numbers"));
        }
        let length = i32::try_from(body.len()).map_err(|_| error("it was given over 2 GB".to_owned()))?;
        let mut live = self.take()?;
        let (memory, alloc) = live.bytes.expect("an instance has what its interface needs");
        let settings = self.module.settings();
        let mut budget = Budget::new(settings);
        let pointer = live.run_i32(alloc, &[length], Val::I32(0), &mut budget)?.i32().unwrap_or(0);
        if pointer == 0 || memory.write(&mut live.store, pointer as u32 as usize, body).is_err() {
            let message =
                format!("its `alloc` of {length} bytes gave {}, which is no place for them", pointer as u32);
            return Err(Failure { kind: FailureKind::Trap, message });
        }
        let packed =
            live.run_i32(live.call, &[pointer, length], Val::I64(0), &mut budget)?.i64().unwrap_or(0);
        let (pointer, length) = ((packed as u64 >> 32) as usize, packed as u32 as usize);
        let given = memory.data(&live.store).get(pointer..pointer + length);
        let taken = match given {
            _ if packed == 0 => Ok(&b"{}"[..]),
            _ if length as u64 > settings.output_max.as_u64() => Err(Failure {
                kind: FailureKind::TooLarge,
                message: format!("its answer has {length} bytes; return less, or raise `output_max`"),
            }),
            None => Err(error(format!("its answer, {length} bytes at {pointer}, is not in its memory"))),
            Some(bytes) => is_object(bytes).map(|()| bytes),
        };
        // Wrong answers are no trap: the instance goes on.
        let result = taken.map(|bytes| answer.extend_from_slice(bytes));
        self.live = Some(live);
        result
    }

    /// The live instance, to be put back after a call that it survives.
    fn take(&mut self) -> Result<Live, Failure> {
        let trap = |message| Failure { kind: FailureKind::Trap, message };
        self.live.take().map_or_else(|| self.module.live().map_err(trap), Ok)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(live) = self.live.take() {
            self.module.give_back(live);
        }
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").field("module", &self.module).finish_non_exhaustive()
    }
}

impl Live {
    pub(super) fn new(store: Store<StoreLimits>, instance: &wasmi::Instance, abi: Abi) -> Option<Self> {
        let call = instance.get_func(&store, "call")?;
        let bytes = match abi {
            Abi::Numbers { .. } => None,
            Abi::Bytes => Some((instance.get_memory(&store, "memory")?, instance.get_func(&store, "alloc")?)),
        };
        Some(Self { store, call, bytes, inputs: Vec::new(), outputs: [Val::I32(0)] })
    }

    /// Runs with integers; `output` has the type of what comes back.
    fn run_i32(
        &mut self,
        func: Func,
        inputs: &[i32],
        output: Val,
        budget: &mut Budget<'_>,
    ) -> Result<&Val, Failure> {
        self.inputs.clear();
        self.inputs.extend(inputs.iter().map(|input| Val::I32(*input)));
        self.outputs = [output];
        self.run(func, budget)?;
        Ok(&self.outputs[0])
    }

    /// Runs to the end, or until the budget is used up.
    fn run(&mut self, func: Func, budget: &mut Budget<'_>) -> Result<(), Failure> {
        let failure = |error: wasmi::Error| failure(&error, budget.settings);
        self.store.set_fuel(budget.slice(0)).map_err(failure)?;
        let mut state =
            func.call_resumable(&mut self.store, &self.inputs, &mut self.outputs).map_err(failure)?;
        loop {
            let left = self.store.get_fuel().map_err(failure)?;
            let ResumableCall::OutOfFuel(stopped) = state else {
                budget.left -= budget.given - left;
                return Ok(());
            };
            if let ControlFlow::Break(failure) = budget.next(left, stopped.required_fuel()) {
                return Err(failure);
            }
            self.store.set_fuel(budget.given).map_err(failure)?;
            state = stopped.resume(&mut self.store, &mut self.outputs).map_err(failure)?;
        }
    }
}

/// Fuel and time of a call.
struct Budget<'a> {
    settings: &'a WasmSettings,
    /// Fuel that has not been used, with what is given.
    left: u64,
    /// Of it, what the code may use before we are asked again.
    given: u64,
    /// When the first slice was used up. Most calls never ask what time it is.
    began: Option<Instant>,
}

impl<'a> Budget<'a> {
    fn new(settings: &'a WasmSettings) -> Self {
        Self { settings, left: settings.fuel, given: 0, began: None }
    }

    /// A slice of at least `required`.
    fn slice(&mut self, required: u64) -> u64 {
        self.given = self.left.min(required.max(SLICE_FUEL));
        self.given
    }

    /// A slice is used up but for `unused`: gives the next one, or says why there is none.
    fn next(&mut self, unused: u64, required: u64) -> ControlFlow<Failure> {
        self.left -= self.given - unused;
        let timeout = |message| ControlFlow::Break(Failure { kind: FailureKind::Timeout, message });
        if self.left < required.max(1) {
            return timeout(reason(&TrapCode::OutOfFuel.into(), self.settings));
        }
        let now = Instant::now();
        if now - *self.began.get_or_insert(now) >= self.settings.time {
            return timeout(format!("it ran longer than {:?}; raise `time`", self.settings.time));
        }
        self.slice(required);
        ControlFlow::Continue(())
    }
}

fn failure(error: &wasmi::Error, settings: &WasmSettings) -> Failure {
    let is_fuel = error.as_trap_code() == Some(TrapCode::OutOfFuel);
    let kind = if is_fuel { FailureKind::Timeout } else { FailureKind::Trap };
    Failure { kind, message: reason(error, settings) }
}

fn error(message: String) -> Failure {
    Failure { kind: FailureKind::Error, message }
}

fn wrong_abi(it_takes: &str) -> Failure {
    error(format!("it takes {it_takes}, and was not given them"))
}

fn is_object(bytes: &[u8]) -> Result<(), Failure> {
    match serde_json::from_slice::<&RawValue>(bytes) {
        Ok(value) if value.get().starts_with('{') => Ok(()),
        Ok(_) => Err(error("its answer is JSON but no object; write {\"name\": value}".to_owned())),
        Err(reason) => Err(error(format!("its answer is no JSON: {reason}"))),
    }
}
