//! A file's bytes seen in memory; the only unsafe code.
#![allow(unsafe_code)]

use memmap2::{Mmap, MmapOptions};
use std::fs::File;
use std::io;

/// A read-only view of the first bytes of a file, through the same pages that write(2) fills.
///
/// Nothing is ever stored through it, so a full disk can never surface here: storing goes through the descriptor and
/// comes back as an error. A slice of the view lives only as long as the closure that `View::with` runs.
#[derive(Debug)]
pub struct View {
    map: Mmap,
}

impl View {
    /// Maps the first `length` bytes of `file`, which must have that many: pages past a file's end cannot be read.
    pub(crate) fn of(file: &File, length: u64) -> io::Result<Self> {
        if file.metadata()?.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let bytes = usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
        // SAFETY: the bytes of a shared map may change under a reader, so the rule that keeps this sound is the
        // store's: a chunk is read only by the holder of its lease, who is also the only one that writes it (R4), and
        // the file is 0600 in a 0700 folder under an advisory lock. A foreign program of the same user that breaks
        // into that can change what is hashed, which then has the wrong hash; no reference or length is ever derived
        // from the bytes. The length of the file is checked above and again before each read by the caller.
        let map = unsafe { MmapOptions::new().len(bytes).map(file)? };
        Ok(Self { map })
    }

    /// Lends the bytes from `offset` on to `read`, or returns `None` where the view does not hold them all.
    pub(crate) fn with<R>(&self, offset: u64, length: u64, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        self.map.get(start..end).map(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_view_shows_what_is_written_later_and_nothing_past_its_end() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 10_000]).unwrap();
        let view = View::of(&file, 9_000).unwrap();
        assert_eq!(view.with(0, 9_000, |bytes| bytes.iter().map(|&b| u32::from(b)).sum::<u32>()), Some(9_000));
        std::io::Seek::rewind(&mut file).unwrap();
        file.write_all(&[2; 4]).unwrap();
        assert_eq!(view.with(2, 4, <[u8]>::to_vec), Some(vec![2, 2, 1, 1]));
        assert_eq!(view.with(8_999, 2, <[u8]>::len), None);
        assert_eq!(view.with(u64::MAX, 2, <[u8]>::len), None);
    }

    #[test]
    fn a_file_shorter_than_the_view_is_refused() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(View::of(&file, 1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
