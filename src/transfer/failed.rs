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
use std::sync::atomic::Ordering;
use std::time::Duration;

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
        lock(&self.failures).push(failure);
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
        lock(&self.failures).push(failure);
    }

    /// What kind of failure the entry's was, if it failed.
    fn class_of(&self, entry: EntryIndex) -> Option<FailureClass> {
        let path = self.listing().entry(entry)?.path.as_str();
        lock(&self.failures).iter().find(|failure| failure.path == path).map(|failure| failure.class)
    }

    /// Notes that a folder has not its final mode and time. One that could not be made was noted before.
    pub(super) fn folder_failed(&self, path: &RelPath, fault: &StoreError) {
        let noted = lock(&self.failures).iter().any(|failure| failure.path == path.as_str());
        if !noted {
            self.entry_failed(path, fault.to_string(), FailureClass::Io);
        }
    }

    /// Takes the failures noted so far.
    pub(super) fn take_failures(&self) -> Vec<FailedFile> {
        std::mem::take(&mut *lock(&self.failures))
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
    use std::io::ErrorKind;

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
