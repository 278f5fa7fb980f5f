//! Ctrl-C and termination: the first one asks the transfer to stop and ends the process within a second, the second one
//! ends it at once.

use crate::cli::exit::Exit;
use haul::transfer::Cancel;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, Scope};
use std::time::Duration;

/// How long a transfer may take to stop. A disk that takes its time with what it was given may take longer: it is
/// not waited for, since a transfer that is cut off at any moment can be continued.
const GRACE: Duration = Duration::from_millis(700);
/// How long the last word may take: whoever reads it may not be reading.
const LAST_WORD: Duration = Duration::from_millis(150);
/// How often a request to stop is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Remembers which signal came first.
#[derive(Debug)]
pub(crate) struct Signals(Arc<AtomicUsize>);

impl Signals {
    /// Takes over both signals for the rest of the process.
    ///
    /// Handlers run in the order in which they are registered: the one that ends the process looks at the flag before
    /// the one that sets it.
    pub(crate) fn install(cancel: &Cancel) -> io::Result<Self> {
        let first = Arc::new(AtomicUsize::new(0));
        for (signal, number, exit) in [(SIGINT, 2_usize, Exit::SigInt), (SIGTERM, 15, Exit::SigTerm)] {
            flag::register_conditional_shutdown(signal, i32::from(exit.code()), cancel.flag())?;
            flag::register_usize(signal, Arc::clone(&first), number)?;
            flag::register(signal, cancel.flag())?;
        }
        Ok(Self(first))
    }

    /// Runs a transfer. One that does not end soon after it was asked to has the process ended under it, after
    /// `last_word`, which is told how.
    pub(crate) fn obeyed<T>(
        &self,
        cancel: &Cancel,
        last_word: impl FnOnce(Exit) + Send,
        transfer: impl FnOnce() -> T,
    ) -> T {
        let (ended, waiting) = mpsc::channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || {
                while waiting.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                    if cancel.is_cancelled() {
                        if waiting.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
                            self.end_process(scope, last_word);
                        }
                        return;
                    }
                }
            });
            let result = transfer();
            drop(ended);
            result
        })
    }

    fn end_process<'scope>(&self, scope: &'scope Scope<'scope, '_>, last_word: impl FnOnce(Exit) + Send + 'scope) {
        let exit = self.exit().unwrap_or(Exit::Interrupted);
        let (said, waiting) = mpsc::channel();
        scope.spawn(move || {
            last_word(exit);
            // Nobody waits any more where it came too late.
            let _ = said.send(());
        });
        // Said or not, it is over.
        let _ = waiting.recv_timeout(LAST_WORD);
        signal_hook::low_level::exit(i32::from(exit.code()));
    }

    /// How the process ends because of a signal, if one came.
    pub(crate) fn exit(&self) -> Option<Exit> {
        match self.0.load(Ordering::SeqCst) {
            0 => None,
            15 => Some(Exit::SigTerm),
            _ => Some(Exit::SigInt),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_signal_asks_to_stop_and_is_remembered() {
        let cancel = Cancel::new();
        let signals = Signals::install(&cancel).unwrap();
        assert_eq!(signals.exit(), None);
        signal_hook::low_level::raise(SIGTERM).unwrap();
        assert!(cancel.is_cancelled());
        assert_eq!(signals.exit(), Some(Exit::SigTerm));
    }
}
