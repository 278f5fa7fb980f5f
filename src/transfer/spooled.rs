//! Offering what can be read only once: it is kept in a file first, for as long as it takes to hand it over.

use super::panics::caught;
use super::{Cancel, Event, Observer, Phase, Progress, SpoolSettings, Summary, TransferError};
use crate::source::{Spool, SpoolFault};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often progress is told.
const TURN: Duration = Duration::from_millis(100);

/// Reads `input` to its end, and has it offered by `offer`, which is told where it lies. Once the offer has ended well it
/// is removed; where it was interrupted or failed it stays, and can be offered again.
pub fn spooled<I: Read + AsFd>(
    settings: &SpoolSettings,
    input: I,
    observer: &dyn Observer,
    cancel: &Cancel,
    offer: impl FnOnce(&Path) -> Result<Summary, TransferError>,
) -> Result<Summary, TransferError> {
    let spool = caught(|| {
        let spool = Spool::open(&settings.folder, &settings.name).map_err(failure)?;
        if settings.again {
            spool.kept().map_err(failure)?;
        } else {
            fill(&spool, input, observer, cancel)?;
        }
        Ok(spool)
    })?;
    let summary = offer(&spool.path())?;
    if let Err(fault) = spool.remove() {
        observer.event(&Event::Notice { text: format!("what was read of standard input is still kept: {fault}") });
    }
    Ok(summary)
}

fn fill<I: Read + AsFd>(
    spool: &Spool,
    input: I,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<(), TransferError> {
    observer.event(&Event::Phase(Phase::Spooling));
    let mut told: Option<Instant> = None;
    let mut tell = |bytes| {
        if told.is_none_or(|told| told.elapsed() >= TURN) {
            told = Some(Instant::now());
            observer.event(&Event::Progress(progress(bytes)));
        }
    };
    let read = spool.fill(input, &cancel.flag(), &mut tell).map_err(failure)?;
    observer.event(&Event::Progress(progress(read)));
    Ok(())
}

/// How many bytes there will be is not known.
fn progress(bytes: u64) -> Progress {
    Progress { bytes_done: bytes, bytes_fetched: bytes, ..Progress::default() }
}

fn failure(fault: SpoolFault) -> TransferError {
    match fault {
        SpoolFault::Stopped => TransferError::Interrupted,
        fault => TransferError::Input(fault),
    }
}
