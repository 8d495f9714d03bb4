//! Ctrl-C and SIGTERM: the first asks for a clean end, the second ends at once.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};

/// Exit code of a process that was interrupted and did not wait for a clean end.
const INTERRUPTED: i32 = 130;

/// Tells that an end was asked for.
#[derive(Debug)]
pub struct Signals {
    asked: Receiver<()>,
}

impl Signals {
    /// Begins to listen. Call once in a process.
    pub fn listen() -> io::Result<Self> {
        let (sender, asked) = mpsc::sync_channel(1);
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            let mut signals = signals.forever();
            if signals.next().is_some() && sender.send(()).is_ok() {
                tracing::info!("ending; a second signal ends at once");
            }
            if signals.next().is_some() {
                std::process::exit(INTERRUPTED);
            }
        })?;
        Ok(Self { asked })
    }

    /// Waits for at most `timeout`; whether an end was asked for in that time.
    pub fn wait(&self, timeout: Duration) -> bool {
        match self.asked.recv_timeout(timeout) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            // The thread is gone after a panic only; time still has to pass.
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(timeout);
                false
            }
        }
    }
}
