//! What stands for WebAssembly in a program that is built without it: a module that cannot be, so that who calls
//! functions need not know how the program was built.

use super::{Abi, WasmError, WasmSettings};
use crate::function::Failure;

/// There is none.
#[derive(Clone, Debug)]
pub enum Module {}

/// There is none.
#[derive(Debug)]
pub enum Instance {}

impl Module {
    /// Says how to build a program that can.
    pub fn compile(_: &[u8], _: &WasmSettings) -> Result<Self, WasmError> {
        Err(WasmError::NeedsFeature)
    }

    /// How it is called.
    pub fn abi(&self) -> Abi {
        match *self {}
    }

    /// What calls it.
    pub fn instance(&self) -> Instance {
        match *self {}
    }
}

impl Instance {
    /// Calls a module that takes numbers.
    pub fn call_numbers(&mut self, _: &[f64]) -> Result<Option<f64>, Failure> {
        match *self {}
    }

    /// Calls a module that takes bytes.
    pub fn call_bytes(&mut self, _: &[u8], _: &mut Vec<u8>) -> Result<(), Failure> {
        match *self {}
    }
}
