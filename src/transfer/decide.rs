//! The offer is complete: what is there already, what the user says, and the start.

use super::conduct::Conduct;
use super::desk::run_desk;
use super::memory::Accepted;
use super::panics::watched;
use super::publisher::run_publisher;
use super::unfinished;
use super::{Decision, Event, Phase, TransferError, failed, plan};
use crate::limits::CHUNK_BYTES_MIN;
use crate::session::Input;
use crate::store::RecordId;
use std::collections::HashMap;
use std::path::Path;

/// Threads that open files and check claims.
const DESK_THREADS: usize = 2;
/// Average length from which files count as large: within one machine a second lane measured 10 % faster for those, and
/// 30 % slower for small ones, since both make them in one folder, which takes one at a time.
const LARGE_FILE_BYTES: u64 = CHUNK_BYTES_MIN;

impl Conduct<'_, '_, '_> {
    /// Surveys the destination, asks the user, and starts.
    pub(super) fn decide(&mut self) -> Result<(), TransferError> {
        let engine = self.engine;
        let listing = engine.listing();
        let declined = |error: TransferError| {
            engine.step(Input::Declined);
            error
        };
        let id = record_id(listing);
        if engine.settings.resuming.is_some_and(|resuming| resuming != id) {
            return Err(declined(TransferError::OfferChanged));
        }
        let survey = plan::survey(engine.store, listing).map_err(declined)?;
        plan::refuse_hidden(engine, is_home(&engine.settings.into)).map_err(declined)?;
        let conflict = match engine.observer.accept(&plan::summary(listing, &survey)) {
            Decision::Accept => engine.settings.conflict,
            Decision::AcceptWith(conflict) => conflict,
            Decision::Refuse => return Err(declined(TransferError::Declined)),
        };
        // It is asked once, so nothing is there to be replaced.
        let _ = engine.conflict.set(conflict);
        engine.observer.event(&Event::Phase(Phase::Transferring));
        let unusable = |fault| failed::store("the transfer's record cannot be kept", fault);
        if engine.record.get().is_none() {
            let record = engine.store.open_record(id).map_err(unusable).map_err(declined)?;
            // It is asked once, so nothing is there to be replaced.
            let _ = engine.record.set(record);
        }
        let Some(record) = engine.record.get() else { return Err(TransferError::Bug("there is no record".into())) };
        let grant = self.grant.as_ref();
        let nothing_to_go_on_with = || TransferError::Bug("a session without a secret".into());
        let origin = self.dial.origin(grant).ok_or_else(nothing_to_go_on_with)?;
        let accepted = Accepted { origin, addresses: self.dial.addresses(), grant, conflict, listing };
        unfinished::remember(engine, record, &accepted).map_err(unusable).map_err(declined)?;
        let published: HashMap<_, _> = record.published().map_err(unusable).map_err(declined)?.into_iter().collect();
        let plans = plan::plans(engine, &survey, &published);
        self.start_desks();
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
