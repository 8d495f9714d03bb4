//! Any bytes as payload of every decoder: `cargo +nightly fuzz run decode`, from the root of the repository.

#![no_main]

mod check;

libfuzzer_sys::fuzz_target!(|payload: &[u8]| check::check(payload));
