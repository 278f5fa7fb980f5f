//! One file, folder or link of a listing.

use super::{Attributes, LinkTarget};
use crate::chunk::Length;
use crate::rel_path::{PathFault, RelPath};

/// Place of an entry in its listing, from 0.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EntryIndex(pub u32);

/// A file, a folder or a link, as its sender lists it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Where it goes, relative to the destination.
    pub path: RelPath,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: Mode,
    /// When its content last changed.
    pub modified: Timestamp,
    /// Extended attributes. Links have none.
    pub attributes: Attributes,
}

/// What an entry is. Devices, sockets and pipes are not sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EntryKind {
    /// Bytes.
    File {
        /// How many.
        length: Length,
    },
    /// Holds other entries.
    Folder,
    /// Another name of a file of the same listing. Bits, time and attributes are that file's.
    HardLink {
        /// That file, which comes before.
        to: EntryIndex,
    },
    /// Text that leads elsewhere in what is sent.
    Symlink {
        /// Where.
        target: LinkTarget,
    },
}

/// Permission bits of user, group and others. Set-user-id, set-group-id and sticky never travel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mode(u16);

/// A point in time, since 1970 UTC.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Timestamp {
    seconds: i64,
    nanoseconds: u32,
}

impl EntryIndex {
    /// The index as a `usize`, which holds every `u32` on the platforms that this builds for.
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl Entry {
    /// Length of the file, or `None` for a folder or a link.
    pub fn file_length(&self) -> Option<Length> {
        match self.kind {
            EntryKind::File { length } => Some(length),
            EntryKind::Folder | EntryKind::HardLink { .. } | EntryKind::Symlink { .. } => None,
        }
    }

    /// Whether it is a link, of either kind.
    pub fn is_link(&self) -> bool {
        matches!(self.kind, EntryKind::HardLink { .. } | EntryKind::Symlink { .. })
    }

    /// Why this entry is refused, and nothing else of its offer.
    pub fn refusal(&self) -> Option<PathFault> {
        let of_target = || match &self.kind {
            EntryKind::Symlink { target } => target.refusal(),
            _ => None,
        };
        self.path.refusal().or_else(of_target)
    }
}

impl Mode {
    /// The permission bits of `bits`; every other bit is dropped.
    pub fn masked(bits: u32) -> Self {
        Self((bits & 0o777) as u16)
    }

    /// The nine bits.
    pub fn bits(self) -> u16 {
        self.0
    }
}

impl Timestamp {
    /// Years 0 to 9999: what every file system that is written to can at least round.
    const SECONDS: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

    /// The time, moved to the nearest one that file systems can hold.
    pub fn clamped(seconds: i64, nanoseconds: u32) -> Self {
        let clamped = seconds.clamp(*Self::SECONDS.start(), *Self::SECONDS.end());
        Self { seconds: clamped, nanoseconds: if clamped == seconds { nanoseconds.min(999_999_999) } else { 0 } }
    }

    /// Whole seconds since 1970 UTC, negative before.
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds on top, below 10^9.
    pub fn nanoseconds(self) -> u32 {
        self.nanoseconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_permission_bits_travel() {
        for bits in 0..=0o7777 {
            assert_eq!(u32::from(Mode::masked(bits).bits()), bits & 0o777);
        }
        assert_eq!(Mode::masked(u32::MAX).bits(), 0o777);
    }

    #[test]
    fn times_out_of_reach_are_clamped() {
        for seconds in [i64::MIN, i64::MAX, i64::MAX - 1_000] {
            let time = Timestamp::clamped(seconds, u32::MAX);
            assert!(Timestamp::SECONDS.contains(&time.seconds()) && time.nanoseconds() == 0);
        }
        assert_eq!(Timestamp::clamped(-1, 5), Timestamp { seconds: -1, nanoseconds: 5 });
        assert_eq!(Timestamp::clamped(0, u32::MAX).nanoseconds(), 999_999_999);
    }
}
