//! Any bytes as what edge nodes of Sparkplug say: `cargo +nightly fuzz run sparkplug`, from the root of the repository.

#![no_main]

mod sparkplug_check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sparkplug_check::check(bytes));
