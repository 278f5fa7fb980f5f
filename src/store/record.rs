//! What a transfer must remember to go on after its process is gone.

use super::disk::{self, Disk, DiskFile, DiskFolder, OpenHow};
use super::fault::StoreError;
use super::work::{FoundFile, Work};
use super::{FileOf, Inner, Store};
use crate::digest::{DIGEST_BYTES, FileDigest, PurposeHasher};
use crate::limits::STATE_FILE_BYTES_MAX;
use crate::manifest::EntryIndex;
use crate::rel_path::WORK_FOLDER;
use std::fmt;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

/// Ending of the file that holds link, secret and addresses.
const CONTENTS_ENDING: &str = ".transfer";
/// Ending of the file that holds a row for every published entry.
const JOURNAL_ENDING: &str = ".done";
/// Bytes of a journal row: entry (4), root (32), checksum (28).
const ROW_BYTES: usize = 64;
const ROW_CHECKED: usize = 4 + DIGEST_BYTES;

/// Names a transfer at one destination.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RecordId(pub [u8; 16]);

/// What shows of a record that is not opened.
pub struct RecordGlance {
    /// Its name.
    pub id: RecordId,
    /// How many entries it has noted, as far as its length tells.
    pub published: u64,
    /// The bytes last set, where there are any. They are a secret.
    pub contents: Option<Zeroizing<Vec<u8>>>,
}

/// The memory of one transfer, open in this process and in no other.
#[derive(Debug)]
pub struct Record<D: Disk> {
    inner: Arc<Inner<D>>,
    work: Arc<Work<D>>,
    id: RecordId,
    journal: FileOf<D>,
    /// Where the next row goes.
    end: Mutex<u64>,
}

/// Leaves the contents out: they are a secret, and debug output ends up in logs.
impl fmt::Debug for RecordGlance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, published, contents: _ } = self;
        let mut shown = formatter.debug_struct("RecordGlance");
        shown.field("id", id).field("published", published).finish_non_exhaustive()
    }
}

impl<D: Disk> Store<D> {
    /// Opens the record `id`, or makes an empty one.
    pub fn open_record(&self, id: RecordId) -> Result<Record<D>, StoreError> {
        let opened = self.record(id, true)?;
        opened.ok_or(StoreError::Misuse("a record that was to be made is not there"))
    }

    /// Opens the record `id`, where there is one.
    pub fn reopen_record(&self, id: RecordId) -> Result<Option<Record<D>>, StoreError> {
        self.record(id, false)
    }

    fn record(&self, id: RecordId, may_make: bool) -> Result<Option<Record<D>>, StoreError> {
        let work = self.inner.work()?;
        let name = format!("{id}{JOURNAL_ENDING}");
        let refused = |error| self.inner.fault("opening the record", &name, 0, error);
        let busy = || StoreError::Busy { path: id.to_string(), holder: None };
        let journal = match work.open_found(&name).map_err(refused)? {
            FoundFile::Ours(file) => file,
            FoundFile::Busy(_) => return Err(busy()),
            FoundFile::Foreign => {
                return Err(StoreError::Tampered { path: name, what: "the record of a transfer is something else" });
            }
            FoundFile::Nothing if !may_make => return Ok(None),
            FoundFile::Nothing => match work.folder().open_file(&name, OpenHow::Create) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(busy()),
                result => {
                    let file = result.map_err(refused)?;
                    if !file.lock(disk::Lock::Exclusive).map_err(refused)? {
                        return Err(busy());
                    }
                    file
                }
            },
        };
        if journal.facts().map_err(refused)?.length > STATE_FILE_BYTES_MAX {
            // No run of this program writes so much; nothing in it is believed.
            journal.set_length(0).map_err(refused)?;
        }
        let record = Record { inner: Arc::clone(&self.inner), work, id, journal, end: Mutex::new(0) };
        let mut end = 0;
        record.each_row(|position, _, _| end = position + 1)?;
        *record.end() = end * ROW_BYTES as u64;
        Ok(Some(record))
    }

    /// What every record shows, in the order of their names. Nothing is locked, so that no transfer that runs notices.
    pub fn glance_at_records(&self) -> Result<Vec<RecordGlance>, StoreError> {
        let Some(work) = self.inner.existing_work()? else { return Ok(Vec::new()) };
        self.records()?.into_iter().map(|id| self.glance(&work, id)).collect()
    }

    fn glance(&self, work: &Work<D>, id: RecordId) -> Result<RecordGlance, StoreError> {
        let length = |name: &str, file: Option<FileOf<D>>| match file {
            Some(file) => {
                let facts = file.facts().map_err(|error| self.inner.fault("looking at", name, 0, error))?;
                Ok((facts.length <= STATE_FILE_BYTES_MAX).then_some((file, facts.length)))
            }
            None => Ok(None),
        };
        let journal_name = format!("{id}{JOURNAL_ENDING}");
        let journal = length(&journal_name, work.peek(&journal_name))?;
        let published = journal.map_or(0, |(_, length)| length / ROW_BYTES as u64);
        let name = format!("{id}{CONTENTS_ENDING}");
        let Some((file, length)) = length(&name, work.peek(&name))? else {
            return Ok(RecordGlance { id, published, contents: None });
        };
        let mut bytes = Zeroizing::new(vec![0; usize::try_from(length).unwrap_or(0)]);
        // It is replaced as a whole and never cut: what it was as it was opened can be read.
        let read = disk::read_exact(&file, &mut bytes, 0);
        read.map_err(|error| self.inner.fault("reading the record", &name, 0, error))?;
        Ok(RecordGlance { id, published, contents: Some(bytes) })
    }

    /// The transfers that this destination has a record of.
    pub fn records(&self) -> Result<Vec<RecordId>, StoreError> {
        let Some(work) = self.inner.existing_work()? else { return Ok(Vec::new()) };
        let names = work.folder().names();
        let names = names.map_err(|error| self.inner.fault("listing", WORK_FOLDER, 0, error))?;
        let ids = names.iter().filter_map(|name| RecordId::parse(name.strip_suffix(JOURNAL_ENDING)?));
        let mut ids: Vec<RecordId> = ids.collect();
        ids.sort();
        Ok(ids)
    }
}

impl<D: Disk> Record<D> {
    /// Its name.
    pub fn id(&self) -> RecordId {
        self.id
    }

    /// The bytes last set, or `None` where none were. The caller decodes them and trusts nothing about them.
    pub fn contents(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let name = self.contents_name();
        let refused = |error| self.inner.fault("reading the record", &name, 0, error);
        let file = match self.work.open_found(&name).map_err(refused)? {
            FoundFile::Ours(file) => file,
            FoundFile::Nothing => return Ok(None),
            FoundFile::Busy(_) | FoundFile::Foreign => {
                return Err(StoreError::Tampered { path: name, what: "the record of a transfer is something else" });
            }
        };
        let length = file.facts().map_err(refused)?.length;
        if length > STATE_FILE_BYTES_MAX {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        disk::read_exact(&file, &mut bytes, 0).map_err(refused)?;
        Ok(Some(bytes))
    }

    /// Replaces the contents in one step, durably.
    pub fn set_contents(&self, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.len() as u64 > STATE_FILE_BYTES_MAX {
            return Err(StoreError::Misuse("a record longer than is ever read"));
        }
        let name = self.contents_name();
        let written = self.work.replace_file(&name, bytes);
        written.map_err(|error| self.inner.fault("writing the record", &name, bytes.len() as u64, error))
    }

    /// Notes that entries were published, each with the root that it had. Only after that is true and durable.
    pub fn note_published(&self, entries: &[(EntryIndex, FileDigest)]) -> Result<(), StoreError> {
        let mut end = self.end();
        let mut bytes = Vec::with_capacity(entries.len() * ROW_BYTES);
        for (position, &(entry, root)) in (*end / ROW_BYTES as u64..).zip(entries) {
            bytes.extend_from_slice(&self.encode_row(position, entry, root));
        }
        let after = *end + bytes.len() as u64;
        if after > STATE_FILE_BYTES_MAX {
            return Err(StoreError::Misuse("more entries noted than a listing has"));
        }
        let written = disk::write_all(&self.journal, &bytes, *end);
        written
            .map_err(|error| self.inner.fault("writing the record", &self.journal_name(), bytes.len() as u64, error))?;
        *end = after;
        Ok(())
    }

    /// The entries noted. A row that a crash tore or garbled is left out: its file is looked at again.
    pub fn published(&self) -> Result<Vec<(EntryIndex, FileDigest)>, StoreError> {
        let mut entries = Vec::new();
        self.each_row(|_, entry, root| entries.push((entry, root)))?;
        Ok(entries)
    }

    /// Removes the record: its transfer is complete, or given up.
    pub fn remove(self) -> Result<(), StoreError> {
        for name in [self.contents_name(), self.journal_name()] {
            self.work.remove(&name).map_err(|error| self.inner.fault("removing the record", &name, 0, error))?;
        }
        Ok(())
    }

    /// Calls `each` with position, entry and root of every row that is whole.
    fn each_row(&self, mut each: impl FnMut(u64, EntryIndex, FileDigest)) -> Result<(), StoreError> {
        let mut buffer = self.inner.buffers.take();
        let mut position = 0;
        loop {
            let read = disk::read_full(&self.journal, &mut buffer, position * ROW_BYTES as u64);
            let read = read.map_err(|error| self.inner.fault("reading the record", &self.journal_name(), 0, error))?;
            for bytes in buffer[..read].chunks_exact(ROW_BYTES) {
                let entry = EntryIndex(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
                let mut root = [0; DIGEST_BYTES];
                root.copy_from_slice(&bytes[4..ROW_CHECKED]);
                if self.encode_row(position, entry, FileDigest(root)) == bytes {
                    each(position, entry, FileDigest(root));
                }
                position += 1;
            }
            if read < buffer.len() {
                return Ok(());
            }
        }
    }

    fn encode_row(&self, position: u64, entry: EntryIndex, root: FileDigest) -> [u8; ROW_BYTES] {
        let mut row = [0; ROW_BYTES];
        row[..4].copy_from_slice(&entry.0.to_le_bytes());
        row[4..ROW_CHECKED].copy_from_slice(&root.0);
        let mut hasher = PurposeHasher::new("haul 1 published entry");
        hasher.field(&self.id.0).field(&position.to_le_bytes()).field(&row[..ROW_CHECKED]);
        row[ROW_CHECKED..].copy_from_slice(&hasher.finish()[..ROW_BYTES - ROW_CHECKED]);
        row
    }

    fn contents_name(&self) -> String {
        format!("{}{CONTENTS_ENDING}", self.id)
    }

    fn journal_name(&self) -> String {
        format!("{}{JOURNAL_ENDING}", self.id)
    }

    fn end(&self) -> std::sync::MutexGuard<'_, u64> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RecordId {
    /// Reads the form that [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut id = [0; 16];
        if text.len() != 32 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        for (byte, pair) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(id))
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_from_their_text() {
        let id = RecordId(*b"0123456789abcdef");
        assert_eq!(RecordId::parse(&id.to_string()), Some(id));
        for text in ["", "0", &"g".repeat(32), &"A".repeat(32), &"0".repeat(33)] {
            assert_eq!(RecordId::parse(text), None);
        }
    }
}
