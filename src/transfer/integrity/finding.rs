//! What a check finds that is not as its manifest says.

use crate::manifest::{Mode, Timestamp};
use std::fmt;
use std::ops::Range;

/// Something that is not as the manifest says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// Path within the folder that is checked, raw.
    pub path: String,
    /// What is the matter with it.
    pub what: Difference,
}

/// How something is not as the manifest says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Difference {
    /// A file of other content.
    Different(Found),
    /// Something that the manifest does not list, in a folder that it lists.
    Extra(Kind),
    /// Other permission bits or another time, each as it is and as it should be. Told only on demand.
    Metadata {
        /// Permission bits.
        mode: Option<(Mode, Mode)>,
        /// Time of the last change.
        modified: Option<(Timestamp, Timestamp)>,
    },
    /// Nothing is there.
    Missing(Kind),
    /// It is something else than it should be.
    OtherKind {
        /// What it is.
        found: Kind,
        /// What it should be.
        expected: Kind,
    },
    /// A symbolic link that leads elsewhere.
    Target {
        /// Where it leads, raw; nothing where that is no place that a listing may name.
        found: Option<String>,
        /// Where it should lead.
        expected: String,
    },
    /// It cannot be read, for this reason: a printable sentence without a full stop.
    Unreadable(String),
}

/// What is known of a file of other content.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// The parts that differ, in order; those that touch are one. None where only more follows, and none where the list of
    /// hashes knows of whole files alone.
    pub bad: Vec<BadRange>,
    /// Its length in bytes, and the one that it should have, where both are known and differ.
    pub lengths: Option<(u64, u64)>,
}

/// Chunks of a file that follow each other and differ.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadRange {
    /// The chunks, from 0.
    pub chunks: Range<u32>,
    /// The bytes that they are made of.
    pub bytes: Range<u64>,
}

/// What something is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A device, a socket or a FIFO.
    Special,
    /// A symbolic link.
    Symlink,
}

/// How many findings there are of each sort.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Files of other content, and links that lead elsewhere.
    pub different: u64,
    /// What is not listed.
    pub extra: u64,
    /// Other permission bits or times.
    pub metadata: u64,
    /// What is not there.
    pub missing: u64,
    /// What is something else.
    pub other_kind: u64,
    /// What cannot be read.
    pub unreadable: u64,
}

impl Tally {
    /// Counts a finding.
    pub fn add(&mut self, what: &Difference) {
        let count = match what {
            Difference::Different(_) | Difference::Target { .. } => &mut self.different,
            Difference::Extra(_) => &mut self.extra,
            Difference::Metadata { .. } => &mut self.metadata,
            Difference::Missing(_) => &mut self.missing,
            Difference::OtherKind { .. } => &mut self.other_kind,
            Difference::Unreadable(_) => &mut self.unreadable,
        };
        *count += 1;
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether all that is wrong is that something cannot be read.
    pub fn is_unreadable_alone(&self) -> bool {
        self.unreadable > 0 && *self == Self { unreadable: self.unreadable, ..Self::default() }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.different, "different"),
            (self.missing, "missing"),
            (self.extra, "extra"),
            (self.other_kind, "of another kind"),
            (self.unreadable, "unreadable"),
            (self.metadata, "with other metadata"),
        ];
        let told: Vec<String> =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        formatter.write_str(&told.join(", "))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::File => "a file",
            Self::Folder => "a folder",
            Self::Special => "a device, socket or FIFO",
            Self::Symlink => "a symbolic link",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_reads_as_a_list_of_what_there_is() {
        let mut tally = Tally::default();
        assert!(tally.is_empty() && !tally.is_unreadable_alone());
        tally.add(&Difference::Unreadable("no".into()));
        assert!(tally.is_unreadable_alone());
        tally.add(&Difference::Missing(Kind::File));
        tally.add(&Difference::Different(Found::default()));
        tally.add(&Difference::Different(Found::default()));
        assert_eq!(tally.to_string(), "2 different, 1 missing, 1 unreadable");
        assert!(!tally.is_unreadable_alone());
    }
}
