//! The offer is complete: what is there already, what the user says, and the start.

use super::conduct::{Conduct, Flow};
use super::desk::run_desk;
use super::engine::Engine;
use super::memory::{Accepted, Origin};
use super::out;
use super::panics::watched;
use super::plan::Survey;
use super::publisher::run_publisher;
use super::route::Route;
use super::sink::run_sink;
use super::unfinished::{self, Records};
use super::work::MainEvent;
use super::{Conflict, Decision, Event, Phase, TransferError, failed, plan};
use crate::limits::CHUNK_BYTES_MIN;
use crate::session::Input;
use crate::store::{Existing, RecordId, StoreError};
use std::collections::HashMap;
use std::path::Path;

/// Threads that open files and check claims.
const DESK_THREADS: usize = 2;
/// Average length from which files count as large: within one machine a second lane measured 10 % faster for those, and
/// 30 % slower for small ones, since both make them in one folder, which takes one at a time.
const LARGE_FILE_BYTES: u64 = CHUNK_BYTES_MIN;

/// What the user said, and what it was said about.
pub(super) struct Decided {
    pub(super) survey: Survey,
    pub(super) conflict: Conflict,
}

/// Why nothing comes of an offer, and what its sender is told.
pub(super) struct NotTaken {
    error: TransferError,
    /// That somebody else sends the same, and not that the user declined.
    is_taken: bool,
}

impl Conduct<'_, '_, '_> {
    /// Surveys the destination and asks the user, on a thread of its own: lanes come and go meanwhile.
    pub(super) fn ask(&self) {
        let (engine, route) = (self.engine, self.route.clone());
        let origin = self.route.origin(self.grant.as_ref());
        self.scope.spawn(move || {
            watched(&engine.main, || engine.main.push(MainEvent::Decided(decide(engine, &route, origin.as_ref()))));
        });
    }

    /// The user took the offer, or nothing comes of it.
    pub(super) fn decided(&mut self, decided: Result<Decided, NotTaken>) -> Result<Flow, TransferError> {
        let started = decided.and_then(|decided| self.start(&decided));
        started.map(|()| Flow::On).map_err(|NotTaken { error, is_taken }| {
            self.engine.step(if is_taken { Input::Taken } else { Input::Declined });
            error
        })
    }

    fn start(&mut self, decided: &Decided) -> Result<(), NotTaken> {
        let engine = self.engine;
        if engine.settings.dry_run {
            self.foresee(decided);
            return Ok(());
        }
        let listing = engine.listing();
        let id = record_id(listing);
        let conflict = decided.conflict;
        // It is asked once, so nothing is there to be replaced.
        let _ = engine.conflict.set(conflict);
        engine.observer.event(&Event::Phase(Phase::Transferring));
        if engine.record.get().is_none() {
            let record = engine.store.open_record(id).map_err(unusable)?;
            // It is asked once, so nothing is there to be replaced.
            let _ = engine.record.set(record);
        }
        let Some(record) = engine.record.get() else {
            return Err(TransferError::Bug("there is no record".into()).into());
        };
        let grant = self.grant.as_ref();
        let nothing_to_go_on_with = || TransferError::Bug("a session without a secret".into());
        let origin = self.route.origin(grant).ok_or_else(nothing_to_go_on_with)?;
        // Before the records go that this one takes the place of.
        let records = Records::around(engine.store, id, Some(&origin)).map_err(unusable)?;
        let accepted = Accepted { origin, addresses: self.route.addresses(), grant, conflict, listing };
        unfinished::remember(engine, record, &accepted).map_err(unusable)?;
        let mut published: HashMap<_, _> = record.published().map_err(unusable)?.into_iter().collect();
        if let Some(expect) = &engine.settings.expect {
            for (entry, root) in std::mem::take(&mut published) {
                // An earlier run may have taken whatever was offered.
                if expect.has_root(entry, root)? {
                    published.insert(entry, root);
                }
            }
        }
        decided.survey.take_over(engine.store, listing, &records);
        let plans = plan::plans(engine, &decided.survey, &published);
        self.start_desks();
        // Before anything is asked for.
        self.keep_limit();
        engine.step(Input::Accepted(plans));
        let totals = listing.totals();
        if totals.bytes / u64::from(totals.files.max(1)) >= LARGE_FILE_BYTES {
            self.data.wanted += std::mem::take(&mut self.data.spared);
        }
        Ok(())
    }

    fn start_desks(&self) {
        let engine = self.engine;
        // Too little room from the start was refused before; from here on, it can only be taken by others.
        engine.store.wait_for_room(true);
        for _ in 0..DESK_THREADS {
            self.scope.spawn(move || watched(&engine.main, || run_desk(engine)));
        }
        self.scope.spawn(move || watched(&engine.main, || run_publisher(engine)));
        if let Some(sink) = &engine.sink {
            self.scope.spawn(move || watched(&engine.main, || run_sink(engine, sink)));
        }
    }
}

/// What becomes of the offer, as far as that is known before anything is written.
fn decide(engine: &Engine<'_>, route: &Route, origin: Option<&Origin>) -> Result<Decided, NotTaken> {
    let listing = engine.listing();
    let id = record_id(listing);
    if engine.settings.resuming.is_some_and(|resuming| resuming != id) {
        return Err(TransferError::OfferChanged.into());
    }
    if let Some(expect) = &engine.settings.expect {
        expect.check_listing(engine.offered().as_deref().unwrap_or(listing))?;
    }
    let lobby = match route {
        Route::Dialled(_) => None,
        Route::Visited(visit) if visit.lobby.take(id, visit) => Some(&visit.lobby),
        Route::Visited(_) => return Err(NotTaken::taken("another sender is sending the same files")),
    };
    out::refuse_others(listing, engine.settings)?;
    let records = Records::around(engine.store, id, origin)
        .map_err(|fault| failed::store("cannot look at what is unfinished", fault))?;
    let mut survey = plan::survey(engine.store, listing, &records)?;
    if engine.sink.is_some() {
        // What is there is none of its business: nothing is written under the name.
        survey.existing.fill(Existing::Nothing);
        survey.unnameable.clear();
    } else {
        plan::refuse_hidden(engine, is_home(&engine.settings.into))?;
    }
    if engine.settings.dry_run {
        // Nothing is written, so nobody is asked: not about the room either, which is told with all else.
        return Ok(Decided { survey, conflict: engine.settings.conflict });
    }
    survey.refuse_lack()?;
    plan::refuse_collisions(engine.store, listing)?;
    if let Some(conflict) = lobby.and_then(|lobby| lobby.accepted(id)) {
        engine.notice("the sender is back with the files that were accepted before".into());
        return Ok(Decided { survey, conflict });
    }
    let conflict = match engine.observer.accept(&plan::summary(listing, &survey, engine.settings.symlinks)) {
        Decision::Accept => engine.settings.conflict,
        Decision::AcceptWith(conflict) => conflict,
        Decision::Refuse => return Err(TransferError::Declined.into()),
    };
    if let Some(lobby) = lobby {
        lobby.accept(id, conflict);
    }
    Ok(Decided { survey, conflict })
}

fn unusable(fault: StoreError) -> NotTaken {
    match fault {
        StoreError::Busy { .. } => NotTaken::taken("another process has it"),
        fault => failed::store("the transfer's record cannot be kept", fault).into(),
    }
}

impl NotTaken {
    fn taken(by: &'static str) -> Self {
        let error = TransferError::Io { what: "this transfer is under way already".into(), cause: by.into() };
        Self { error, is_taken: true }
    }
}

impl From<TransferError> for NotTaken {
    fn from(error: TransferError) -> Self {
        Self { error, is_taken: false }
    }
}

fn record_id(listing: &crate::manifest::Listing) -> RecordId {
    let mut id = [0; 16];
    id.copy_from_slice(&listing.digest().0[..16]);
    RecordId(id)
}

/// Whether `folder` is the home folder of whoever runs this.
fn is_home(folder: &Path) -> bool {
    let home = std::env::var_os("HOME").map(std::path::PathBuf::from);
    home.and_then(|home| home.canonicalize().ok()).zip(folder.canonicalize().ok()).is_some_and(|(home, it)| home == it)
}
