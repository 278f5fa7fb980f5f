//! Ctrl-C and termination: the first one asks the transfer to stop, the second one ends the process.

use crate::cli::exit::Exit;
use haul::transfer::Cancel;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
