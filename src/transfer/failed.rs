//! What a failure is called, for one file and for a whole transfer.

use super::engine::{Engine, lock};
use super::{Event, FailedFile, FailureClass, TransferError};
use crate::limits::LANE_SILENCE_MAX;
use crate::manifest::{Entry, EntryIndex, EntryKind};
use crate::rel_path::RelPath;
use crate::session::{End, FileFault, Plan};
use crate::store::{Disk, StoreError};
use crate::transport::TransportError;
use crate::wire::Refusal;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What failed so far, in order, and found by its path.
#[derive(Debug, Default)]
pub(super) struct Failures {
    list: Vec<FailedFile>,
    places: HashMap<String, usize>,
}

impl Failures {
    fn add(&mut self, failure: FailedFile) {
        self.places.entry(failure.path.clone()).or_insert(self.list.len());
        self.list.push(failure);
    }

    fn get(&self, path: &str) -> Option<&FailedFile> {
        self.places.get(path).and_then(|&place| self.list.get(place))
    }
}

/// The failure of the file at `path`.
pub(super) fn file(path: &str, fault: &FileFault, disk: Option<&StoreError>) -> FailedFile {
    let class = match (fault, disk) {
        (FileFault::Disk, Some(fault)) if fault.is_for_want_of_room() => FailureClass::NoSpace,
        (FileFault::Disk, Some(StoreError::Damaged { .. } | StoreError::RootMismatch { .. })) => {
            FailureClass::Integrity
        }
        (FileFault::Disk, Some(StoreError::Name { .. })) => FailureClass::Name,
        (FileFault::Disk, Some(StoreError::Misuse(_) | StoreError::Incomplete { .. })) => FailureClass::Bug,
        (FileFault::Disk, _) => FailureClass::Io,
        (FileFault::FirstFailed, _) => FailureClass::Partial,
        (FileFault::Exists, _) => FailureClass::Exists,
        (FileFault::Integrity, _) => FailureClass::Integrity,
        (FileFault::SourceChanged(_), _) => FailureClass::SourceChanged,
    };
    let fault = disk.map_or_else(|| fault.to_string(), ToString::to_string);
    FailedFile { path: path.to_owned(), fault, class }
}

/// What a transfer in which `failures` happened, and nothing else went wrong, ends with.
pub(super) fn files(failures: &[FailedFile], total: u64, needed: u64, free: u64) -> Option<TransferError> {
    let count = failures.len() as u64;
    let first = failures.first()?;
    let all_alike = failures.iter().all(|failure| failure.class == first.class);
    Some(match first.class {
        FailureClass::NoSpace if all_alike => TransferError::NoSpace { needed, free },
        FailureClass::Exists if all_alike => TransferError::Exists { count },
        FailureClass::Integrity if all_alike => TransferError::Integrity { files: count },
        FailureClass::Name if all_alike => TransferError::Names { count },
        FailureClass::SourceChanged if all_alike => TransferError::SourceChanged { files: count },
        FailureClass::Io if all_alike && count == total => {
            TransferError::Io { what: format!("cannot store `{}`", first.path), cause: first.fault.clone().into() }
        }
        _ => TransferError::Partial { failed: count, total },
    })
}

impl<D: Disk> Engine<'_, D> {
    /// Notes that an entry failed before anything of it was asked for, and plans for that.
    pub(super) fn fail_plan(&self, entry: &Entry, fault: String, class: FailureClass) -> Plan {
        if entry.kind != EntryKind::Folder {
            self.counters.files_failed.fetch_add(1, Ordering::Relaxed);
        }
        self.entry_failed(&entry.path, fault, class);
        Plan::Failed
    }

    /// Notes that an entry failed before anything of it was asked for, or a folder at the end.
    pub(super) fn entry_failed(&self, path: &RelPath, fault: String, class: FailureClass) {
        let failure = FailedFile { path: path.as_str().to_owned(), fault, class };
        let FailedFile { path, fault, class } = failure.clone();
        self.observer.event(&Event::FileFailed { path, fault, class });
        lock(&self.failures).add(failure);
    }

    /// Closes what is open of a failed file, which keeps what it has, and says so.
    pub(super) fn file_failed(&self, entry: EntryIndex, fault: &FileFault) {
        self.sink.iter().for_each(|sink| sink.close());
        lock(&self.partials).remove(&entry);
        lock(&self.singles).remove(&entry);
        let chunks = self.listing().chunks_of(entry);
        lock(&self.set_aside).retain(|chunk, _| !chunks.contains(chunk));
        let disk = lock(&self.disk_faults).remove(&entry);
        let Some(listed) = self.listing().entry(entry) else { return };
        self.counters.files_failed.fetch_add(1, Ordering::Relaxed);
        let mut failure = file(listed.path.as_str(), fault, disk.as_ref());
        if let (FileFault::FirstFailed, EntryKind::HardLink { to }) = (fault, &listed.kind) {
            failure.class = self.class_of(*to).unwrap_or(failure.class);
        }
        let FailedFile { path, fault, class } = failure.clone();
        self.observer.event(&Event::FileFailed { path, fault, class });
        lock(&self.failures).add(failure);
    }

    /// What kind of failure the entry's was, if it failed.
    fn class_of(&self, entry: EntryIndex) -> Option<FailureClass> {
        let path = self.listing().entry(entry)?.path.as_str();
        lock(&self.failures).get(path).map(|failure| failure.class)
    }

    /// Notes what failed at the end: folders that have not their final mode and time, unless they could not be made and
    /// that was noted, and files that were there before and cannot be synced. These were counted as done. Returns how many
    /// there are.
    pub(super) fn failed_at_the_end(&self, faults: &[(RelPath, StoreError)]) -> u32 {
        if faults.is_empty() {
            return 0;
        }
        let mut failed = 0;
        let is_folder = |entry: &&Entry| entry.kind == EntryKind::Folder;
        let folders: HashSet<_> = self.listing().entries().iter().filter(is_folder).map(|entry| &entry.path).collect();
        for (path, fault) in faults {
            if !folders.contains(path) {
                self.counters.files_done.fetch_sub(1, Ordering::Relaxed);
                self.counters.files_failed.fetch_add(1, Ordering::Relaxed);
            } else if lock(&self.failures).get(path.as_str()).is_some() {
                continue;
            }
            let FailedFile { fault, class, .. } = file(path.as_str(), &FileFault::Disk, Some(fault));
            self.entry_failed(path, fault, class);
            failed += 1;
        }
        failed
    }

    /// Takes the failures noted so far.
    pub(super) fn take_failures(&self) -> Vec<FailedFile> {
        std::mem::take(&mut *lock(&self.failures)).list
    }
}

/// Why there is no lane.
pub(super) fn transport(error: TransportError, waited: Duration) -> TransferError {
    match error {
        TransportError::Busy => TransferError::Refused(error.into()),
        TransportError::WrongProof => TransferError::Auth(error.into()),
        TransportError::ConnectTimeout => TransferError::ConnectTimeout { waited, cause: None },
        TransportError::ProofTimeout => TransferError::ConnectTimeout { waited, cause: Some(error.into()) },
        TransportError::Silent => TransferError::Timeout { waited: LANE_SILENCE_MAX },
        TransportError::PeerNotHaul => TransferError::NotHaul(error.into()),
        TransportError::VersionMismatch => TransferError::OtherVersion(error.into()),
        TransportError::Tls(_) => TransferError::Protocol(error.into()),
        other => TransferError::Network(other.into()),
    }
}

/// What an end other than a complete one means to this side.
pub(super) fn end(end: End) -> TransferError {
    match end {
        End::Complete => TransferError::Bug("a complete transfer is no failure".into()),
        End::Declined => TransferError::Declined,
        End::OfferChanged => TransferError::OfferChanged,
        End::PeerFault(fault) => TransferError::Protocol(fault.into()),
        End::Refused(refusal) => {
            let why = match refusal {
                Refusal::Busy => "it serves as many receivers as it can",
                Refusal::Declined => "its user declined, or disconnected this receiver",
                Refusal::Protocol => "it says that this side broke the protocol",
                Refusal::Stopped => "it was stopped, or started again without this session",
                Refusal::Version => "it speaks another version of the protocol",
                Refusal::Receives => "it receives itself: push to it with `haul send PATH... --to LINK`",
                Refusal::Sends => "it offers files itself: fetch them with `haul receive LINK`",
                Refusal::Taken => "it is receiving the same files from another sender",
            };
            TransferError::Refused(why.into())
        }
    }
}

/// Why the destination cannot be used at all.
pub(super) fn store(what: &str, error: StoreError) -> TransferError {
    match error {
        StoreError::NoSpace { needed, free, .. } => TransferError::NoSpace { needed, free },
        StoreError::Misuse(_) => TransferError::Bug(error.into()),
        other => TransferError::Io { what: what.into(), cause: other.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::Length;
    use crate::digest::FileDigest;
    use crate::manifest::{Attributes, ListingBuilder, Mode, Timestamp};
    use crate::session::{Receiver, ReceiverSettings};
    use crate::store::{RealDisk, Store};
    use crate::transfer::work::Counters;
    use crate::transfer::{Decision, FileOutcome, Observer, OfferSummary, ReceiveSettings};
    use std::io::ErrorKind;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Instant;

    struct Nobody;

    impl Observer for Nobody {
        fn event(&self, _event: &Event) {}

        fn accept(&self, _offer: &OfferSummary) -> Decision {
            Decision::Refuse
        }
    }

    /// Has an engine that receives these entries do something.
    fn with_engine(folder: &Path, entries: &[(&str, EntryKind)], act: impl FnOnce(&Engine<'_, RealDisk>)) {
        let mut builder = ListingBuilder::new();
        for (path, kind) in entries {
            let (path, modified) = (RelPath::parse(path).unwrap(), Timestamp::clamped(0, 0));
            let (mode, attributes) = (Mode::masked(0o644), Attributes::NONE);
            builder.push(Entry { path, kind: kind.clone(), mode, modified, attributes }).unwrap();
        }
        let totals = builder.totals();
        let settings = ReceiveSettings::plain(folder);
        let store = Store::open(RealDisk::open(folder).unwrap()).unwrap();
        let receiver = Receiver::new(ReceiverSettings { lanes: 1, grant: None, features: 0 });
        let engine = Engine::new(&store, &settings, &Nobody, receiver, Instant::now(), Counters::default());
        engine.listing.set(Arc::new(builder.finish(totals).unwrap())).unwrap();
        act(&engine);
    }

    #[test]
    fn a_file_that_was_there_and_cannot_be_synced_is_no_longer_counted_as_done() {
        let folder = tempfile::tempdir().unwrap();
        let file = EntryKind::File { length: Length(1) };
        let entries = [("a", EntryKind::Folder), ("a/b", file.clone()), ("c", EntryKind::Folder), ("d", file)];
        with_engine(folder.path(), &entries, |engine| {
            for entry in [1, 3] {
                engine.file_done(EntryIndex(entry), FileDigest([0; 32]), FileOutcome::Identical);
            }
            let path = |text| RelPath::parse(text).unwrap();
            engine.entry_failed(&path("c"), "it cannot be made".into(), FailureClass::Name);
            let unsynced =
                |text: &str| StoreError::FsyncFailed { path: text.into(), source: ErrorKind::StorageFull.into() };
            let failed = engine.failed_at_the_end(&["a/b", "a", "c"].map(|text| (path(text), unsynced(text))));
            assert_eq!(failed, 2, "the sender is told of those that it does not know of");
            let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
            assert_eq!((count(&engine.counters.files_done), count(&engine.counters.files_failed)), (1, 1));
            let failures = engine.take_failures();
            let told: Vec<_> = failures.iter().map(|failure| (failure.path.as_str(), failure.class)).collect();
            let no_space = FailureClass::NoSpace;
            assert_eq!(told, [("c", FailureClass::Name), ("a/b", no_space), ("a", no_space)], "each is told once");
        });
    }

    #[test]
    fn what_came_of_a_file_that_failed_meanwhile_takes_no_place() {
        let folder = tempfile::tempdir().unwrap();
        with_engine(folder.path(), &[("a", EntryKind::File { length: Length(100) })], |engine| {
            assert!(!engine.set_aside(EntryIndex(0), 0, vec![0; 50]), "nothing more of it is wanted");
            assert!(lock(&engine.set_aside).is_empty());
        });
    }

    #[test]
    fn a_sync_that_found_no_room_is_told_from_one_that_the_device_failed() {
        let class = |kind: ErrorKind| {
            let unsynced = StoreError::FsyncFailed { path: "a".into(), source: kind.into() };
            file("a", &FileFault::Disk, Some(&unsynced)).class
        };
        assert_eq!(class(ErrorKind::StorageFull), FailureClass::NoSpace);
        assert_eq!(class(ErrorKind::QuotaExceeded), FailureClass::NoSpace);
        assert_eq!(class(ErrorKind::Other), FailureClass::Io);
    }
}
