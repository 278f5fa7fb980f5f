//! A dry run of a receiver: looks at what is there, compares it with what is offered, and writes nothing.

use super::conduct::Conduct;
use super::decide::Decided;
use super::desk::run_desk;
use super::engine::{Engine, lock};
use super::foresee_links::{self, Twins};
use super::panics::watched;
use super::plan::{Course, Survey, course, note_unasked_attributes};
use super::{
    Conflict, Event, FailedFile, FailureClass, Fate, Forecast, Foreseen, Phase, Summary, TransferError, failed, links,
};
use crate::chunk::{ChunkIndex, Geometry, Length};
use crate::digest::{ChunkDigest, FileDigest};
use crate::manifest::{Entry, EntryIndex, EntryKind};
use crate::rel_path::RelPath;
use crate::session::{FileFault, Input, Plan, Verdict};
use crate::store::{Disk, Existing, Older, PartPeek, RealDisk, StoreError};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

/// What a dry run knows so far.
#[derive(Debug)]
pub(super) struct Outlook<D: Disk = RealDisk> {
    /// Bytes that are free.
    free: OnceLock<u64>,
    /// Why there is too little room, where there is.
    lack: Mutex<Option<TransferError>>,
    /// One for each entry of the listing.
    pub(super) prospects: Mutex<Vec<Prospect>>,
    /// Why entries would be left out for their names.
    refused: Mutex<HashMap<EntryIndex, String>>,
    pub(super) twins: Twins,
    /// What is there of files that would be fetched, while their hashes come.
    bases: Mutex<BTreeMap<EntryIndex, Basis<D>>>,
}

/// What would become of an entry, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prospect {
    pub(super) fate: Fate,
    reused: u64,
    /// Whether what is there decides, once the root is known: where it is the same, nothing is fetched or made.
    pub(super) is_compared: bool,
}

/// What is there of a file, from which chunks of it would be taken.
#[derive(Debug)]
struct Basis<D: Disk> {
    partial: Option<PartPeek<D>>,
    /// An older version. What moved in it is not foreseen: that takes an outline, for which the sender reads all of the file.
    older: Option<Older<D>>,
    geometry: Geometry,
}

impl<D: Disk> Default for Outlook<D> {
    fn default() -> Self {
        Self {
            free: OnceLock::new(),
            lack: Mutex::default(),
            prospects: Mutex::default(),
            refused: Mutex::default(),
            twins: Twins::default(),
            bases: Mutex::default(),
        }
    }
}

impl Prospect {
    pub(super) fn of(fate: Fate) -> Self {
        Self { fate, reused: 0, is_compared: false }
    }

    /// The same, where what is there may decide.
    pub(super) fn compared(self, is_compared: bool) -> Self {
        Self { is_compared, ..self }
    }
}

impl<D: Disk> Basis<D> {
    /// What is there of the file at `entry`. `None` where nothing is.
    fn of(engine: &Engine<'_, D>, entry: &Entry) -> Result<Option<Self>, StoreError> {
        let Some(length) = entry.file_length() else { return Ok(None) };
        let Some(geometry) = Geometry::of(length) else { return Ok(None) };
        let partial = match engine.store.peek_at_partial(&entry.path, length)? {
            Some(partial) if partial.claims_any()? => Some(partial),
            _ => None,
        };
        let has_chunks = engine.sink.is_none() && !geometry.is_single();
        let older = if has_chunks { engine.store.open_older(&entry.path) } else { None };
        Ok((partial.is_some() || older.is_some()).then_some(Self { partial, older, geometry }))
    }

    /// Whether chunk `index` is there with the hash that is `promised`.
    fn holds(&self, index: ChunkIndex, promised: ChunkDigest) -> Result<bool, StoreError> {
        let is_in_partial = self.partial.as_ref().map_or(Ok(false), |partial| partial.holds(index, promised));
        let is_in_older = || self.older.as_ref().is_some_and(|older| older.holds(self.geometry, index, promised));
        is_in_partial.map(|is_there| is_there || is_in_older())
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
    let _ = engine.outlook.free.set(survey.free);
    *lock(&engine.outlook.lack) = survey.refuse_lack().err();
    note_unasked_attributes(engine);
    let mut look = Look { engine, survey, conflict, lost: HashMap::new(), blocked: HashSet::new() };
    let entries = engine.listing().entries().iter().zip(&survey.existing);
    let foreseen = (0..).map(EntryIndex).zip(entries).map(|(index, (entry, existing))| {
        let (plan, prospect) = look.entry(index, entry, *existing);
        if prospect.fate == Fate::Conflict && entry.kind == EntryKind::Folder {
            look.blocked.insert(entry.path.clone());
        }
        (plan, prospect)
    });
    let (mut plans, prospects): (Vec<_>, Vec<_>) = foreseen.unzip();
    engine.outlook.twins.expect(engine.listing(), &prospects, &mut plans);
    *lock(&engine.outlook.prospects) = prospects;
    plans
}

/// A look at one entry after the other, folders before what they hold.
struct Look<'a, 'e, D: Disk> {
    engine: &'a Engine<'e, D>,
    survey: &'a Survey,
    conflict: Conflict,
    /// Folders that would not be there for their names, with what was said of the first on the way down.
    lost: HashMap<RelPath, String>,
    /// Folders in whose way something else is.
    blocked: HashSet<RelPath>,
}

impl<D: Disk> Look<'_, '_, D> {
    fn entry(&mut self, index: EntryIndex, entry: &Entry, existing: Existing) -> (Plan, Prospect) {
        let engine = self.engine;
        let settled = |fate| (Plan::Skip, Prospect::of(fate));
        if let Some(fault) = self.refusal(index, entry) {
            lock(&engine.outlook.refused).insert(index, fault);
            return settled(Fate::Refuse);
        }
        let (plan, prospect) = match (&entry.kind, existing) {
            (EntryKind::Folder, Existing::Folder) => settled(Fate::Folder),
            (EntryKind::Folder, Existing::Nothing) => settled(Fate::Make),
            (EntryKind::Folder, _) => settled(Fate::Conflict),
            (EntryKind::File { .. }, _) => self.file(index, entry, existing),
            (EntryKind::HardLink { .. } | EntryKind::Symlink { .. }, _) => {
                (Plan::Skip, foresee_links::prospect(engine, entry, existing, self.conflict))
            }
        };
        let is_tried = match prospect.fate {
            Fate::Rename | Fate::Replace => true,
            Fate::Conflict => entry.is_link() && self.conflict.replaces(),
            _ => false,
        };
        match entry.path.parent().filter(|folder| is_tried && self.blocked.contains(folder)) {
            Some(folder) => {
                let fault = StoreError::NotAFolder { path: folder.as_str().to_owned() };
                engine.entry_failed(&entry.path, fault.to_string(), FailureClass::Io);
                settled(Fate::Fail)
            }
            None => (plan, prospect),
        }
    }

    /// Why an entry would be left out for its name, or for that of a folder above it.
    fn refusal(&mut self, index: EntryIndex, entry: &Entry) -> Option<String> {
        if let Some(fault) = entry.refusal() {
            return Some(fault.to_string());
        }
        let of_name = self.survey.unnameable.get(&index).or_else(|| self.lost.get(&entry.path.parent()?)).cloned()?;
        if entry.kind == EntryKind::Folder {
            self.lost.insert(entry.path.clone(), of_name.clone());
        }
        Some(of_name)
    }

    fn file(&self, index: EntryIndex, entry: &Entry, existing: Existing) -> (Plan, Prospect) {
        let settled = |fate| (Plan::Skip, Prospect::of(fate));
        let fate = match (existing, self.conflict) {
            (Existing::Nothing, _) => Fate::Fetch,
            (_, Conflict::Overwrite | Conflict::Update) => Fate::Replace,
            (_, Conflict::Rename) => Fate::Rename,
            (_, Conflict::Fail | Conflict::Skip) => Fate::Conflict,
        };
        let is_compared = match course(entry, existing, None, self.conflict) {
            Course::Skip => return settled(Fate::Skip),
            Course::Exists => return settled(Fate::Conflict),
            Course::Same => return settled(Fate::Reuse),
            Course::Compare => true,
            Course::Done(_) | Course::Fetch => false,
        };
        let prospect = Prospect::of(fate).compared(is_compared);
        match Basis::of(self.engine, entry) {
            Ok(Some(basis)) if fate != Fate::Conflict => {
                lock(&self.engine.outlook.bases).insert(index, basis);
                (Plan::Weigh, prospect)
            }
            // What cannot be looked at is fetched.
            Ok(_) | Err(_) => {
                // All hashes of what would be fetched have to come, where they have to be certain ones.
                let is_demanded = self.engine.settings.expect.is_some() && entry.file_length() != Some(Length(0));
                (if is_compared || is_demanded { Plan::Compare } else { Plan::Skip }, prospect)
            }
        }
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
    foresee_links::compare(engine, entry, root);
    // Whatever it is, the session has nothing more to do about it.
    engine.step(Input::Compared { entry, verdict: Verdict::Identical });
}

/// The same content is there.
fn settle<D: Disk>(engine: &Engine<'_, D>, entry: EntryIndex, geometry: Geometry) {
    let mut weighed = 0;
    if let Some(prospect) = lock(&engine.outlook.prospects).get_mut(entry.as_usize()) {
        prospect.fate = Fate::Reuse;
        weighed = prospect.reused;
    }
    // Chunks that were weighed are counted.
    engine.counters.done.fetch_add(geometry.file_length().0.saturating_sub(weighed), Ordering::Relaxed);
}

/// Tells what would become of everything, and how a run that does it would end.
pub(super) fn finish<D: Disk>(engine: &Engine<'_, D>, began: Instant) -> Result<Summary, TransferError> {
    let listing = engine.listing();
    let totals = listing.totals();
    let free = engine.outlook.free.get().copied().unwrap_or(0);
    let mut failures = engine.take_failures();
    let failed: HashMap<_, _> = failures.iter().map(|failure| (failure.path.clone(), failure.class)).collect();
    let prospects = std::mem::take(&mut *lock(&engine.outlook.prospects));
    let mut fates = Fates { engine, failed, settled: Vec::with_capacity(prospects.len()) };
    let mut forecast = Forecast {
        files: u64::from(totals.files),
        folders: u64::from(totals.folders),
        bytes: totals.bytes,
        free_bytes: Some(free),
        ..Forecast::default()
    };
    for (entry, prospect) in listing.entries().iter().zip(prospects) {
        let (fate, failure) = fates.settle(entry, prospect);
        failures.extend(failure);
        let foreseen = Foreseen {
            path: entry.path.as_str().to_owned(),
            folder: entry.kind == EntryKind::Folder,
            bytes: entry.file_length().map_or(0, |length| length.0),
            link: links::offered(listing, entry),
            fate,
            reused: prospect.reused,
        };
        forecast.add(&foreseen);
        engine.observer.event(&Event::Foreseen(foreseen));
    }
    engine.observer.event(&Event::Forecast(forecast));
    if let Some(error) = lock(&engine.outlook.lack).take() {
        return Err(error);
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

/// What would become of the entries before one, and of those that failed already.
struct Fates<'a, 'e, D: Disk> {
    engine: &'a Engine<'e, D>,
    /// Kinds of the failures that were told, by path.
    failed: HashMap<String, FailureClass>,
    settled: Vec<Fate>,
}

impl<D: Disk> Fates<'_, '_, D> {
    /// What would become of the next entry, and how it would fail, where it would and nobody was told.
    fn settle(&mut self, entry: &Entry, prospect: Prospect) -> (Fate, Option<FailedFile>) {
        let failure = |fault: String, class| FailedFile { path: entry.path.as_str().to_owned(), fault, class };
        let index = EntryIndex(u32::try_from(self.settled.len()).unwrap_or(u32::MAX));
        let of_first = |to: EntryIndex| {
            let (fate, listed) = (self.settled.get(to.as_usize())?, self.engine.listing().entry(to)?);
            foresee_links::fault_of_first(prospect, *fate, self.failed.get(listed.path.as_str()).copied())
        };
        let first = if let EntryKind::HardLink { to } = entry.kind { of_first(to) } else { None };
        let (fate, failure) = match (prospect.fate, first) {
            _ if self.failed.contains_key(entry.path.as_str()) => (Fate::Fail, None),
            (_, Some(class)) => (Fate::FailWithFirst, Some(failure(FileFault::FirstFailed.to_string(), class))),
            (Fate::Conflict, _) => {
                (Fate::Conflict, Some(failure("its name is taken".to_owned(), FailureClass::Exists)))
            }
            (Fate::Refuse, _) => {
                let why = lock(&self.engine.outlook.refused).remove(&index).unwrap_or_default();
                (Fate::Refuse, Some(failure(why, FailureClass::Name)))
            }
            (Fate::Unasked, _) => (Fate::Unasked, Some(failure(links::UNASKED.to_owned(), FailureClass::Partial))),
            (fate, _) => (fate, None),
        };
        self.settled.push(fate);
        (fate, failure)
    }
}

#[cfg(test)]
mod tests {
    use super::super::unfinished::Records;
    use super::*;
    use crate::manifest::{Attributes, ListingBuilder, Mode, Timestamp};
    use crate::session::{Receiver, ReceiverSettings};
    use crate::store::Store;
    use crate::transfer::work::Counters;
    use crate::transfer::{Decision, Observer, OfferSummary, ReceiveSettings, plan};
    use std::sync::Arc;

    #[derive(Default)]
    struct Told(Mutex<Vec<(String, Fate)>>);

    impl Observer for Told {
        fn event(&self, event: &Event) {
            if let Event::Foreseen(foreseen) = event {
                lock(&self.0).push((foreseen.path.clone(), foreseen.fate));
            }
        }

        fn accept(&self, _offer: &OfferSummary) -> Decision {
            Decision::Refuse
        }
    }

    #[test]
    fn what_lies_in_a_folder_that_cannot_be_named_is_refused_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let kinds = [
            ("a", EntryKind::Folder),
            ("a/deep", EntryKind::Folder),
            ("a/deep/file", EntryKind::File { length: Length(10) }),
            ("b", EntryKind::File { length: Length(10) }),
            ("c", EntryKind::HardLink { to: EntryIndex(2) }),
            ("d", EntryKind::HardLink { to: EntryIndex(3) }),
        ];
        let mut builder = ListingBuilder::new();
        for (path, kind) in kinds {
            let (path, modified) = (RelPath::parse(path).unwrap(), Timestamp::clamped(0, 0));
            let (mode, attributes) = (Mode::masked(0o644), Attributes::NONE);
            builder.push(Entry { path, kind, mode, modified, attributes }).unwrap();
        }
        let totals = builder.totals();
        let listing = builder.finish(totals).unwrap();
        let settings = ReceiveSettings { dry_run: true, ..ReceiveSettings::plain(folder.path()) };
        let store = Store::open_to_look(RealDisk::open(folder.path()).unwrap()).unwrap();
        let told = Told::default();
        let receiver = Receiver::new(ReceiverSettings { lanes: 1, grant: None, features: 0 });
        let engine = Engine::new(&store, &settings, &told, receiver, Instant::now(), Counters::default());
        engine.listing.set(Arc::new(listing)).unwrap();
        let records = Records::around_all(&store).unwrap();
        let mut survey = plan::survey(&store, engine.listing(), &records).unwrap();
        survey.unnameable.insert(EntryIndex(0), "it is too long".to_owned());
        assert_eq!(plans(&engine, &survey, Conflict::Fail), [Plan::Skip; 6], "nothing is asked for");
        let outcome = finish(&engine, Instant::now());
        assert!(matches!(outcome, Err(TransferError::Names { count: 4 })), "{outcome:?}");
        let fates: Vec<_> = lock(&told.0).iter().map(|(_, fate)| *fate).collect();
        let expected = [Fate::Refuse, Fate::Refuse, Fate::Refuse, Fate::Fetch, Fate::FailWithFirst, Fate::Make];
        assert_eq!(fates, expected);
    }
}
