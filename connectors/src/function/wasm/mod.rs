//! Functions in WebAssembly: called on the caller's own thread, as they can neither wait nor see anything but what
//! they are given, and end when their fuel does.
//!
//! A module exports one of two interfaces ([`Abi`]) and imports nothing:
//!
//! ```text
//!   numbers   call(f64, f64, ..) -> f64           one number for each input, in their order; NaN for none
//!
//!   bytes     memory                              alloc is called once for each call, before it; what earlier
//!             alloc(i32 length) -> i32 pointer    calls were given and have answered is not read any more, so
//!             call(i32 pointer, i32 length)       alloc may begin at the beginning again
//!               -> i64                            pointer << 32 | length of a JSON object; 0 for none
//! ```
//! Where there is `_initialize`, as reactors have it, it is called first. What a module keeps in its globals and
//! its memory from one call to the next is of no twin: a call may come to any instance, and an instance is made
//! anew after a call that trapped.
//!
//! [`Failure`](super::Failure)s: out of fuel or time is `timeout`; a trap, or memory over the limit, is `trap`; an
//! answer that is no JSON object or lies outside of the memory is `error`.
//!
//! The interpreter (wasmi 2) was measured against a compiler (wasmtime 48). A call costs either 0.04 to 0.2 us. With
//! fuel, loops over memory take 8 times as long in wasmi, a chain of arithmetic as long as in wasmtime. Building
//! takes 40 against 360 CPU seconds, a module is ready after 0.1 against 2 ms. Functions of twins are calls rather
//! than loops, and what is heavy leaves the worker anyway. `examples/wasm_cost.rs` measures.

#[cfg(feature = "wasm")]
mod instance;
#[cfg(feature = "wasm")]
mod module;

#[cfg(feature = "wasm")]
pub use instance::Instance;
#[cfg(feature = "wasm")]
pub use module::Module;

#[cfg(not(feature = "wasm"))]
mod absent;
#[cfg(not(feature = "wasm"))]
pub use absent::{Instance, Module};

use std::time::Duration;

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::Deserialize;

/// What a call may use.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WasmSettings {
    /// Fuel of a call: some for each step of the code, the same on each machine; a core of 2026 uses up one to two
    /// thousand million a second. `10000000` by default.
    pub fuel: u64,
    /// Most time of a call, for a machine that is slower than the fuel is meant for; `1s` by default. Looked at
    /// after each million of fuel.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "time"))]
    pub time: Duration,
    /// Most memory of an instance; `16MB` by default.
    #[schemars(with = "String", extend("format" = "size"))]
    pub memory: ByteSize,
    /// Most bytes of an answer; `1MB` by default.
    #[schemars(with = "String", extend("format" = "size"))]
    pub output_max: ByteSize,
}

impl Default for WasmSettings {
    fn default() -> Self {
        Self {
            fuel: 10_000_000,
            time: Duration::from_secs(1),
            memory: ByteSize::mb(16),
            output_max: ByteSize::mb(1),
        }
    }
}

impl WasmSettings {
    /// Says what cannot work, and what to write instead.
    pub fn check(&self) -> Result<(), String> {
        let no = |text: String| Err(text);
        if !(1_000..=1_000_000_000_000).contains(&self.fuel) {
            return no(format!("fuel: {} is not possible; write 1000 to 1000000000000", self.fuel));
        }
        if self.time.is_zero() {
            return no("time: a call cannot end in no time; write 1ms or more".to_owned());
        }
        if !(65_536..=4 << 30).contains(&self.memory.as_u64()) {
            return no(format!(
                "memory: {} is not possible; write 64KiB to 4GiB",
                self.memory.display().si()
            ));
        }
        if !(1..=64_000_000).contains(&self.output_max.as_u64()) {
            return no(format!(
                "output_max: {} is not possible; write 1B to 64MB",
                self.output_max.display().si()
            ));
        }
        Ok(())
    }
}

/// How a module is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abi {
    /// `call` of numbers, which gives a number.
    Numbers {
        /// How many it takes.
        inputs: usize,
    },
    /// `call` of a JSON object in the module's memory, which gives another one.
    Bytes,
}

/// Why there is no module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WasmError {
    /// The program has no WebAssembly in it.
    #[error("this program is built without WebAssembly; build with `--features wasm`")]
    NeedsFeature,
    /// A setting that cannot work.
    #[error("{0}")]
    Settings(String),
    /// It is longer than a module may be.
    #[error(
        "the module has {bytes} bytes; 4 MB are the most. Build it without debug information (-O2, strip)"
    )]
    TooLarge {
        /// How long it is.
        bytes: usize,
    },
    /// It is neither a module nor the text of one.
    #[error("it is no WebAssembly: {0}")]
    Invalid(String),
    /// It asks for something from outside.
    #[error(
        "it imports {kind} `{module}.{name}`; a function gets nothing but its inputs. Build for wasm32 without WASI and without a library (clang --target=wasm32 -nostdlib, or Rust's wasm32-unknown-unknown)"
    )]
    Import {
        /// Function, memory, table or global.
        kind: &'static str,
        /// Where it should come from.
        module: String,
        /// What it is called.
        name: String,
    },
    /// It does not have the exports that one of the interfaces needs.
    #[error(
        "{0}; export `call` from f64s to f64, or `memory`, `alloc` (i32) -> i32 and `call` (i32, i32) -> i64"
    )]
    Exports(String),
    /// It cannot be made ready for calls.
    #[error("it fails before its first call: {0}")]
    Start(String),
}

#[cfg(test)]
mod tests;
