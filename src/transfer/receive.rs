//! Receiving: connect, show the offer, fetch, publish.

use super::conduct::{Conduct, Outcome};
use super::dial::{Dial, Way};
use super::engine::Engine;
use super::foresee;
use super::memory::Memory;
use super::panics::caught;
use super::route::{Route, Visit};
use super::sink::Sink;
use super::unfinished;
use super::work::Counters;
use super::{
    Cancel, Event, Expectation, FailureClass, ManifestFile, Observer, Out, Phase, ReceiveSettings, Summary,
    TransferError, failed,
};
use crate::codec::Compression;
use crate::limits::DATA_LANES_MAX;
use crate::printable::printable_path;
use crate::secret::{Invitation, InvitationFault};
use crate::session::{PeerFault, Receiver, ReceiverSettings};
use crate::store::{Disk, RealDisk, Record, Store};
use crate::wire::{FEATURE_ZSTD, FEATURES};
use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

/// Most data lanes, unless the user says otherwise. Eight measured four times as fast as two on a link of 20 Mbit/s that
/// loses 1 % in bursts (`benches/flaky`).
const LANES_MOST: u16 = 8;

/// Fetches the offer behind a link or a code into a folder.
pub fn receive(settings: &ReceiveSettings, observer: &dyn Observer, cancel: &Cancel) -> Result<Summary, TransferError> {
    caught(|| fetch(settings, None, observer, cancel))
}

/// Fetches the only file of an offer, and writes it to `out` as it comes: in order, each chunk once it is verified. The
/// folder keeps what came; a later run writes everything again and fetches the rest. What `settings` say of
/// [`Out::Stream`] is taken for granted.
pub fn receive_stream(
    settings: &ReceiveSettings,
    out: Box<dyn Write + Send>,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Summary, TransferError> {
    let settings = ReceiveSettings { out: Some(Out::Stream), ..settings.clone() };
    caught(|| {
        let sink = Arc::new(Sink::new(out)?);
        fetch(&settings, Some(&sink), observer, cancel)
    })
}

fn fetch(
    settings: &ReceiveSettings,
    sink: Option<&Arc<Sink>>,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Summary, TransferError> {
    let began = Instant::now();
    let invitation = invitation(settings)?;
    let store = open_store(settings)?;
    let mut held = unfinished::hold(&store, settings)?;
    let demanded = demanded(settings, held.as_ref())?;
    let settings = demanded.as_ref().unwrap_or(settings);
    let (way, told) = way(invitation, settings, &store, held.as_ref())?;
    observer.event(&Event::Phase(Phase::Connecting));
    let dial = Arc::new(Dial::new(way, &told).map_err(|error| TransferError::Network(error.into()))?);
    let lanes = settings.lanes.unwrap_or(LANES_MOST).min(DATA_LANES_MAX);
    let mut counters = Counters::default();
    loop {
        let receiver = Receiver::new(ReceiverSettings { lanes, grant: None, features: features(settings) });
        let mut engine = Engine::new(&store, settings, observer, receiver, began, counters);
        engine.sink = sink.cloned();
        if let Some(sink) = sink {
            sink.begin();
        }
        if let Some(record) = held.take() {
            // Nothing is there to be replaced: the engine is new.
            let _ = engine.record.set(record);
        }
        let outcome = run(&engine, &Route::Dialled(Arc::clone(&dial)), cancel);
        // The last word about what was done, also where it is not everything.
        observer.event(&Event::Progress(engine.progress()));
        let has_written = sink.is_some_and(|sink| sink.has_begun());
        match outcome.map_err(|error| if has_written { unsealed(error) } else { error })? {
            Outcome::Complete => return finish(&mut engine, began),
            Outcome::Foreseen => return foresee::finish(&engine, began),
            Outcome::OfferChanged if settings.resuming.is_some() || has_written => {
                return Err(TransferError::OfferChanged);
            }
            Outcome::OfferChanged => counters = start_over(engine),
        }
    }
}

/// What was written cannot be taken back: that its sender does not vouch for it is said in so many words.
fn unsealed(error: TransferError) -> TransferError {
    match error {
        TransferError::Protocol(cause) if matches!(cause.downcast_ref(), Some(PeerFault::Seal)) => {
            TransferError::Unsealed
        }
        error => error,
    }
}

/// What came of a session whose sender connected here.
pub(super) struct Received {
    pub(super) outcome: Result<Summary, TransferError>,
    /// Whether the user took the offer.
    pub(super) is_accepted: bool,
    /// Whether it came to its end, with or without files that failed.
    pub(super) is_complete: bool,
}

/// Receives from a sender that connected here, until everything is there or nobody waits for it any more.
pub(super) fn receive_visit(
    visit: &Arc<Visit>,
    settings: &ReceiveSettings,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Received {
    let (mut is_accepted, mut is_complete) = (false, false);
    let outcome = caught(|| {
        let began = Instant::now();
        let store = open_store(settings)?;
        let lanes = settings.lanes.unwrap_or(LANES_MOST).min(DATA_LANES_MAX);
        let (grant, features) = (Some(visit.grant.clone()), features(settings));
        let receiver = Receiver::new(ReceiverSettings { lanes, grant, features });
        let mut engine = Engine::new(&store, settings, observer, receiver, began, Counters::default());
        engine.main = Arc::clone(&visit.main);
        let outcome = run(&engine, &Route::Visited(Arc::clone(visit)), cancel);
        observer.event(&Event::Progress(engine.progress()));
        is_accepted = engine.record.get().is_some();
        is_complete = matches!(outcome, Ok(Outcome::Complete));
        match outcome? {
            Outcome::Complete => finish(&mut engine, began),
            Outcome::Foreseen | Outcome::OfferChanged => Err(TransferError::OfferChanged),
        }
    });
    Received { outcome, is_accepted, is_complete }
}

/// Optional features that this side offers.
fn features(settings: &ReceiveSettings) -> u32 {
    if settings.compress == Compression::Off { FEATURES & !FEATURE_ZSTD } else { FEATURES }
}

fn open_store(settings: &ReceiveSettings) -> Result<Store<RealDisk>, TransferError> {
    let unusable = |error: std::io::Error| TransferError::Io {
        what: format!("the folder `{}` cannot be used", crate::printable::printable_path(&settings.into)),
        cause: error.into(),
    };
    let disk = RealDisk::open(&settings.into).map_err(unusable)?;
    let store = if settings.dry_run { Store::open_to_look(disk) } else { Store::open(disk) };
    store.map_err(|fault| failed::store("the destination cannot be used", fault))
}

/// What the settings name. `None` where a transfer is resumed whose record says all.
fn invitation(settings: &ReceiveSettings) -> Result<Option<Invitation>, TransferError> {
    if settings.resuming.is_some() && settings.invitation.is_empty() {
        return Ok(None);
    }
    invitation_of(&settings.invitation).map(Some)
}

/// The link or the code that `text` is.
pub(super) fn invitation_of(text: &str) -> Result<Invitation, TransferError> {
    Invitation::parse(text).map_err(|fault| match fault {
        InvitationFault::Code(fault) => TransferError::BadCode(fault.into()),
        InvitationFault::Link(fault) => TransferError::BadLink(fault.into()),
        InvitationFault::Neither => TransferError::NoInvitation,
    })
}

/// The settings of a transfer that is continued, where it was begun with a manifest that its offer has to match: the
/// record says which.
fn demanded<D: Disk>(
    settings: &ReceiveSettings,
    held: Option<&Record<D>>,
) -> Result<Option<ReceiveSettings>, TransferError> {
    let expected = held.and_then(unfinished::memory_of).and_then(|memory| memory.expected);
    let Some(expected) = expected.filter(|_| settings.expect.is_none()) else { return Ok(None) };
    let path = PathBuf::from(OsString::from_vec(expected.path));
    let what = || format!("the manifest `{}` was demanded and is needed to go on", printable_path(&path));
    let manifest =
        ManifestFile::open(&path).map_err(|error| TransferError::Io { what: what(), cause: error.into() })?;
    if manifest.id().0 != expected.id {
        return Err(TransferError::Io { what: what(), cause: "it is another one by now".into() });
    }
    Ok(Some(ReceiveSettings { expect: Some(Expectation::new(manifest)), ..settings.clone() }))
}

/// What the host will accept, and where it may be. A code that began a transfer which is unfinished here is used up: its
/// session goes on.
fn way<D: Disk>(
    invitation: Option<Invitation>,
    settings: &ReceiveSettings,
    store: &Store<D>,
    held: Option<&Record<D>>,
) -> Result<(Way, Vec<SocketAddr>), TransferError> {
    let begun = match invitation {
        Some(Invitation::Link(link)) => return Ok((Way::Link(link), settings.at.clone())),
        Some(Invitation::Code(code)) => {
            let looked = unfinished::begun_by(store, &code);
            match looked.map_err(|fault| failed::store("cannot look at what is unfinished", fault))? {
                Some(begun) => Some(begun),
                None => return Ok((Way::Code(code), settings.at.clone())),
            }
        }
        None => held.and_then(unfinished::memory_of),
    };
    let told = |memory: &Memory| settings.at.iter().chain(&memory.addresses).copied().collect();
    let begun = begun.and_then(|memory| Some((Way::of_code(&memory)?, told(&memory))));
    begun.ok_or_else(|| TransferError::Bug("a record that says neither link nor session".into()))
}

/// Carries one session to its end.
fn run(engine: &Engine<'_>, route: &Route, cancel: &Cancel) -> Result<Outcome, TransferError> {
    let outcome = thread::scope(|scope| {
        let outcome = caught(|| {
            let mut conduct = Conduct::new(engine, route.clone(), cancel, scope);
            let outcome = conduct.run();
            if let (Route::Dialled(dial), Some(grant)) = (route, conduct.grant.take()) {
                dial.keep(grant);
            }
            outcome
        });
        if !matches!(outcome, Ok(Outcome::Complete)) {
            // Threads that read a large file end before its end; a rename that began is finished.
            engine.store.halt(true);
            engine.abort_lanes();
        }
        engine.close();
        engine.abort_owing_lanes();
        outcome
    });
    engine.store.halt(false);
    outcome
}

/// Makes way for a session with the new offer. What is stored stays, and is found by its name and length.
fn start_over(mut engine: Engine<'_>) -> Counters {
    engine.notice("the sender offers something else now than before; what was stored is kept and compared".into());
    remove_record(&mut engine);
    engine.counters.of_the_network()
}

fn finish(engine: &mut Engine<'_>, began: Instant) -> Result<Summary, TransferError> {
    let totals = engine.listing().totals();
    let failures = engine.take_failures();
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let summary = Summary {
        ok: failures.is_empty(),
        files: load(&engine.counters.files_done),
        bytes: totals.bytes,
        bytes_fetched: load(&engine.counters.fetched),
        bytes_reused: load(&engine.counters.reused),
        wire_bytes: load(&engine.counters.wire),
        first_byte_ms: load(&engine.counters.first_byte_ms).checked_sub(1),
        seconds: began.elapsed().as_secs_f64(),
        root: engine.root(),
        failed: failures,
        receivers: None,
    };
    let free = engine.store.space().map_or(0, |space| space.bytes);
    let needed = totals.bytes.saturating_sub(load(&engine.counters.done));
    let error = failed::files(&summary.failed, u64::from(totals.files), needed, free);
    let kept_nothing = summary.files == 0 && summary.failed.iter().all(|file| file.class == FailureClass::Exists);
    if error.is_none() || kept_nothing {
        // A later run has nothing to continue.
        remove_record(engine);
    }
    error.map_or(Ok(summary), Err)
}

/// Where the record stays, it only takes room.
fn remove_record(engine: &mut Engine<'_>) {
    if let Some(Err(fault)) = engine.record.take().map(Record::remove) {
        engine.notice(format!("the record of this transfer could not be removed: {fault}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::End;

    #[test]
    fn a_stream_that_its_sender_does_not_vouch_for_is_said_to_be_wrong() {
        let error = |fault| unsealed(failed::end(End::PeerFault(fault)));
        assert!(matches!(error(PeerFault::Seal), TransferError::Unsealed));
        assert_eq!(error(PeerFault::Seal).class(), FailureClass::Integrity);
        assert!(matches!(error(PeerFault::ListingDigest), TransferError::Protocol(_)));
        assert!(matches!(unsealed(TransferError::Interrupted), TransferError::Interrupted));
    }
}
