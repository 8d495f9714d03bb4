//! The twinloom binary.
fn main() {}
