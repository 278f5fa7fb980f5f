//! A dry run of a receiver: looks at what is there, compares it with what is offered, and writes nothing.

use super::conduct::Conduct;
use super::decide::Decided;
use super::desk::run_desk;
use super::engine::{Engine, lock};
use super::panics::watched;
use super::plan::{Course, Survey, course};
use super::{
    Conflict, Event, FailedFile, FailureClass, Fate, Forecast, Foreseen, Phase, Summary, TransferError, failed,
};
use crate::chunk::{ChunkIndex, Geometry};
use crate::digest::{ChunkDigest, FileDigest};
use crate::manifest::{Entry, EntryIndex};
use crate::session::{Input, Plan, Verdict};
use crate::store::{Disk, Existing, PartPeek, RealDisk, StoreError};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

/// What a dry run knows so far.
#[derive(Debug)]
pub(super) struct Outlook<D: Disk = RealDisk> {
    /// Bytes that everything takes which is not there, and bytes that are free.
    room: OnceLock<Result<u64, (u64, u64)>>,
    /// One for each entry of the listing.
    prospects: Mutex<Vec<Prospect>>,
    /// What is there of files that would be fetched, while their hashes come.
    bases: Mutex<BTreeMap<EntryIndex, Basis<D>>>,
}

/// What would become of an entry, as far as it is known.
#[derive(Clone, Copy, Debug)]
struct Prospect {
    fate: Fate,
    reused: u64,
    /// Whether what is there decides, once the root is known: where it is the same, nothing is fetched.
    is_compared: bool,
}

/// What is there of a file, from which chunks of it would be taken.
#[derive(Debug)]
struct Basis<D: Disk> {
    partial: Option<PartPeek<D>>,
}

impl<D: Disk> Default for Outlook<D> {
    fn default() -> Self {
        Self { room: OnceLock::new(), prospects: Mutex::default(), bases: Mutex::default() }
    }
}

impl<D: Disk> Basis<D> {
    /// What is there of the file at `entry`. `None` where nothing is.
    fn of(engine: &Engine<'_, D>, entry: &Entry) -> Result<Option<Self>, StoreError> {
        let Some(length) = entry.file_length() else { return Ok(None) };
        let partial = match engine.store.peek_at_partial(&entry.path, length)? {
            Some(partial) if partial.claims_any()? => Some(partial),
            _ => None,
        };
        Ok(partial.is_some().then_some(Self { partial }))
    }

    /// Whether chunk `index` is there with the hash that is `promised`.
    fn holds(&self, index: ChunkIndex, promised: ChunkDigest) -> Result<bool, StoreError> {
        self.partial.as_ref().map_or(Ok(false), |partial| partial.holds(index, promised))
    }
}

impl Conduct<'_, '_, '_> {
    /// In place of the start: asks for the hashes that say what is there.
    pub(super) fn foresee(&mut self, decided: &Decided) {
        let engine = self.engine;
        // It is decided once, so nothing is there to be replaced.
        let _ = engine.conflict.set(decided.conflict);
        engine.observer.event(&Event::Phase(Phase::Verifying));
        let plans = plans(engine, &decided.survey, decided.conflict);
        // One, so that the chunks of a file are weighed before it is compared.
        self.scope.spawn(move || watched(&engine.main, || run_desk(engine)));
        engine.step(Input::Accepted(plans));
    }
}

/// What the session is to do about each entry: tell hashes where something is there, and nothing elsewhere.
fn plans<D: Disk>(engine: &Engine<'_, D>, survey: &Survey, conflict: Conflict) -> Vec<Plan> {
    // It is asked once, so nothing is there to be replaced.
    let _ = engine.outlook.room.set(match survey.refuse_lack() {
        Ok(()) => Ok(survey.free),
        Err(_) => Err((survey.needed, survey.free)),
    });
    let entries = engine.listing().entries().iter().zip(&survey.existing);
    let mut prospects = lock(&engine.outlook.prospects);
    (0..)
        .map(EntryIndex)
        .zip(entries)
        .map(|(index, (entry, existing))| {
            let (plan, prospect) = foresee_entry(engine, index, entry, *existing, conflict);
            prospects.push(prospect);
            plan
        })
        .collect()
}

fn foresee_entry<D: Disk>(
    engine: &Engine<'_, D>,
    index: EntryIndex,
    entry: &Entry,
    existing: Existing,
    conflict: Conflict,
) -> (Plan, Prospect) {
    let settled = |fate| (Plan::Skip, Prospect { fate, reused: 0, is_compared: false });
    if entry.path.refusal().is_some() {
        return settled(Fate::Refuse);
    }
    if entry.file_length().is_none() {
        return match existing {
            Existing::Folder => settled(Fate::Folder),
            Existing::Nothing => settled(Fate::Make),
            Existing::File { .. } | Existing::Other => settled(Fate::Conflict),
        };
    }
    let fate = match (existing, conflict) {
        (Existing::Nothing, _) => Fate::Fetch,
        (_, Conflict::Overwrite) => Fate::Replace,
        (_, Conflict::Rename) => Fate::Rename,
        (_, Conflict::Fail | Conflict::Skip) => Fate::Conflict,
    };
    let is_compared = match course(entry, existing, None, conflict) {
        Course::Skip => return settled(Fate::Skip),
        Course::Exists => return settled(Fate::Conflict),
        Course::Same => return settled(Fate::Reuse),
        Course::Compare => true,
        Course::Done(_) | Course::Fetch => false,
    };
    let prospect = Prospect { fate, reused: 0, is_compared };
    match Basis::of(engine, entry) {
        Ok(Some(basis)) if fate != Fate::Conflict => {
            lock(&engine.outlook.bases).insert(index, basis);
            (Plan::Weigh, prospect)
        }
        // What cannot be looked at is fetched.
        Ok(_) | Err(_) => (if is_compared { Plan::Compare } else { Plan::Skip }, prospect),
    }
}

/// Counts what is there of chunks that are to hash to this.
pub(super) fn weigh<D: Disk>(engine: &Engine<'_, D>, entry: EntryIndex, chunks: &[(ChunkIndex, ChunkDigest)]) {
    let Some(geometry) = engine.listing().geometry(entry) else { return };
    let reused: u64 = {
        let bases = lock(&engine.outlook.bases);
        let Some(basis) = bases.get(&entry) else { return };
        let there = chunks.iter().filter(|(index, promised)| basis.holds(*index, *promised).unwrap_or(false));
        there.filter_map(|&(index, _)| geometry.span(index)).map(|span| span.length.0).sum()
    };
    engine.counters.done.fetch_add(reused, Ordering::Relaxed);
    if let Some(prospect) = lock(&engine.outlook.prospects).get_mut(entry.as_usize()) {
        prospect.reused += reused;
    }
}

/// Compares what is there with what is offered, now that its root is known.
pub(super) fn compare<D: Disk>(engine: &Engine<'_, D>, entry: EntryIndex, root: FileDigest) {
    lock(&engine.outlook.bases).remove(&entry);
    let is_compared = lock(&engine.outlook.prospects).get(entry.as_usize()).is_some_and(|it| it.is_compared);
    if let (true, Some(listed), Some(geometry)) =
        (is_compared, engine.listing().entry(entry), engine.listing().geometry(entry))
    {
        match engine.store.hash_existing(&listed.path, geometry) {
            Err(fault) => return engine.disk_failed(entry, fault),
            Ok(Some(found)) if found == root => settle(engine, entry, geometry),
            Ok(_) => {}
        }
    }
    // Whatever it is, the session has nothing more to do about it.
    engine.step(Input::Compared { entry, verdict: Verdict::Identical });
}

/// The same content is there.
fn settle<D: Disk>(engine: &Engine<'_, D>, entry: EntryIndex, geometry: Geometry) {
    if let Some(prospect) = lock(&engine.outlook.prospects).get_mut(entry.as_usize()) {
        prospect.fate = Fate::Reuse;
    }
    engine.counters.done.fetch_add(geometry.file_length().0, Ordering::Relaxed);
}

/// Tells what would become of everything, and how a run that does it would end.
pub(super) fn finish<D: Disk>(engine: &Engine<'_, D>, began: Instant) -> Result<Summary, TransferError> {
    let listing = engine.listing();
    let totals = listing.totals();
    let room = engine.outlook.room.get().copied().unwrap_or(Ok(0));
    let free = room.unwrap_or_else(|(_, free)| free);
    let mut failures = engine.take_failures();
    let failed_paths: std::collections::HashSet<_> = failures.iter().map(|failure| failure.path.clone()).collect();
    let mut forecast = Forecast {
        files: u64::from(totals.files),
        folders: u64::from(totals.folders),
        bytes: totals.bytes,
        free_bytes: Some(free),
        ..Forecast::default()
    };
    for (entry, prospect) in listing.entries().iter().zip(lock(&engine.outlook.prospects).iter()) {
        let has_failed = failed_paths.contains(entry.path.as_str());
        let foreseen = Foreseen {
            path: entry.path.as_str().to_owned(),
            folder: entry.file_length().is_none(),
            bytes: entry.file_length().map_or(0, |length| length.0),
            fate: if has_failed { Fate::Fail } else { prospect.fate },
            reused: prospect.reused,
        };
        forecast.add(&foreseen);
        failures.extend(failure(entry, foreseen.fate));
        engine.observer.event(&Event::Foreseen(foreseen));
    }
    engine.observer.event(&Event::Forecast(forecast));
    if let Err((needed, free)) = room {
        return Err(TransferError::NoSpace { needed, free });
    }
    match failed::files(&failures, u64::from(totals.files), 0, free) {
        Some(error) => Err(error),
        None => Ok(Summary {
            ok: true,
            wire_bytes: engine.counters.wire.load(Ordering::Relaxed),
            seconds: began.elapsed().as_secs_f64(),
            ..Summary::default()
        }),
    }
}

/// How an entry would fail, where it would.
fn failure(entry: &Entry, fate: Fate) -> Option<FailedFile> {
    let (fault, class) = match fate {
        Fate::Conflict => ("its name is taken".to_owned(), FailureClass::Exists),
        Fate::Refuse => (entry.path.refusal()?.to_string(), FailureClass::Name),
        _ => return None,
    };
    Some(FailedFile { path: entry.path.as_str().to_owned(), fault, class })
}
