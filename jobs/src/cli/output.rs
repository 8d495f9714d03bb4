//! Standard output, whose reader may have gone: `twinloom twin list line | head` ends quietly then, as other programs
//! do. The library's `println!` would panic; so in the commands `print!` and `println!` are these.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process::exit;

/// Exit code of a program whose output nobody reads any more: what a shell says of one that SIGPIPE ended.
const UNREAD: i32 = 128 + 13;

/// Standard output.
pub(super) struct Output;

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        or_end(io::stdout().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        or_end(io::stdout().flush())
    }
}

/// Ends the process where nobody reads.
fn or_end<T>(outcome: io::Result<T>) -> io::Result<T> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => exit(UNREAD),
        outcome => outcome,
    }
}

/// What the macros do.
pub(super) fn print(arguments: Arguments<'_>) {
    if let Err(error) = Output.write_fmt(arguments) {
        eprintln!("error: cannot write to standard output: {error}");
        exit(1);
    }
}

macro_rules! print {
    ($($argument:tt)*) => { $crate::cli::output::print(format_args!($($argument)*)) };
}

macro_rules! println {
    ($($argument:tt)*) => { $crate::cli::output::print(format_args!("{}\n", format_args!($($argument)*))) };
}
