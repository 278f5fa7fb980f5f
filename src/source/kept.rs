//! Bytes of small files between their hash and their way to a receiver, so that each is opened and read once.

use super::place::Identity;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whole files of one chunk that were read and hashed, and will be asked for soon.
#[derive(Debug)]
pub(super) struct Kept {
    bytes_max: usize,
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    /// Each file by its entry, with what it was when it was read.
    files: BTreeMap<u32, (Identity, Box<[u8]>)>,
    bytes: usize,
    /// Entries before this one were asked for, or left out: receivers ask in the order of the listing.
    passed: u32,
}

impl Kept {
    /// Keeps at most `bytes_max` bytes of all files together.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, shelf: Mutex::default() }
    }

    /// Keeps the bytes of the file at `entry`, where there is room. What was passed by makes room first.
    pub(super) fn put(&self, entry: u32, identity: Identity, bytes: &[u8]) {
        // Looked at first: without room, or at all, nothing is copied.
        if !self.lock().has_room(bytes.len(), self.bytes_max) {
            return;
        }
        let bytes: Box<[u8]> = bytes.into();
        let mut shelf = self.lock();
        if !shelf.has_room(bytes.len(), self.bytes_max) {
            return;
        }
        shelf.bytes += bytes.len();
        let replaced = shelf.files.insert(entry, (identity, bytes));
        shelf.bytes -= replaced.as_ref().map_or(0, |(_, bytes)| bytes.len());
    }

    /// Fills `out` with the bytes `within` the file at `entry`, if it is kept as what it was when it was listed. Whoever takes
    /// its last bytes takes the file.
    pub(super) fn take(&self, entry: u32, identity: &Identity, within: &Range<u64>, out: &mut [u8]) -> bool {
        let mut shelf = self.lock();
        shelf.passed = shelf.passed.max(entry);
        let Some((kept, bytes)) = shelf.files.get(&entry) else { return false };
        let is_last = within.end == bytes.len() as u64;
        let range = usize::try_from(within.start).ok().zip(usize::try_from(within.end).ok());
        let wanted = range.and_then(|(start, end)| bytes.get(start..end));
        let is_it = kept == identity && wanted.is_some_and(|wanted| wanted.len() == out.len());
        if let (true, Some(wanted)) = (is_it, wanted) {
            out.copy_from_slice(wanted);
        }
        let taken = if is_last || !is_it { shelf.remove(entry) } else { None };
        drop(shelf);
        drop(taken);
        is_it
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn has_room(&mut self, bytes: usize, bytes_max: usize) -> bool {
        while self.bytes + bytes > bytes_max
            && let Some((&entry, _)) = self.files.first_key_value()
            && entry < self.passed
        {
            self.remove(entry);
        }
        self.bytes + bytes <= bytes_max
    }

    fn remove(&mut self, entry: u32) -> Option<Box<[u8]>> {
        let (_, bytes) = self.files.remove(&entry)?;
        self.bytes -= bytes.len();
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(bytes: u64) -> Identity {
        Identity { bytes, ..Identity::NOTHING }
    }

    #[test]
    fn a_file_is_taken_once_and_in_whatever_parts() {
        let kept = Kept::new(100);
        kept.put(3, identity(5), b"hello");
        let take = |entry: u32, within: Range<u64>| {
            let mut out = vec![0; usize::try_from(within.end - within.start).unwrap()];
            kept.take(entry, &identity(5), &within, &mut out).then_some(out)
        };
        assert_eq!(take(3, 0..2).unwrap(), b"he");
        assert_eq!(take(3, 2..5).unwrap(), b"llo");
        assert_eq!(take(3, 0..5), None);
        assert_eq!(kept.lock().bytes, 0);
    }

    #[test]
    fn what_was_read_of_another_state_of_the_file_is_not_given() {
        let kept = Kept::new(100);
        kept.put(3, identity(5), b"hello");
        let changed = Identity { modified: super::super::place::Moment { seconds: 7, nanoseconds: 0 }, ..identity(5) };
        assert!(!kept.take(3, &changed, &(0..5), &mut [0; 5]));
        assert!(!kept.take(3, &identity(5), &(0..5), &mut [0; 5]), "and it is dropped");
    }

    #[test]
    fn what_nobody_asked_for_makes_room_once_later_files_are_asked_for() {
        let kept = Kept::new(10);
        for entry in 0..3 {
            kept.put(entry, identity(5), b"hello");
        }
        assert!(!kept.take(2, &identity(5), &(0..5), &mut [0; 5]), "there was no room for it");
        kept.put(3, identity(5), b"hello");
        assert!(kept.take(3, &identity(5), &(0..5), &mut [0; 5]));
        assert!(kept.lock().bytes <= 10);
        let nothing = Kept::new(0);
        nothing.put(0, identity(5), b"hello");
        assert!(!nothing.take(0, &identity(5), &(0..5), &mut [0; 5]));
    }
}
