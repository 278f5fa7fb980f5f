//! The entries of a listing as they travel.

use crate::chunk::Length;
use crate::manifest::{
    Attribute, Attributes, Entry, EntryIndex, EntryKind, LinkTarget, Mode, TargetFault, Timestamp, Totals,
};
use crate::rel_path::{PathFault, RelPath};
use serde::{Deserialize, Serialize};

/// An entry as it travels, not yet checked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct WireEntry {
    /// Relative path, components separated by `/`.
    pub path: Box<str>,
    /// What it is.
    pub kind: WireKind,
    /// Permission bits.
    pub mode: u16,
    /// Seconds since 1970 UTC.
    pub seconds: i64,
    /// Nanoseconds on top.
    pub nanoseconds: u32,
    /// Extended attributes, checked as they are read: what breaks a rule is no message.
    #[serde(with = "attributes")]
    pub attributes: Attributes,
}

/// What an entry is, as it travels. In wire order.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum WireKind {
    /// Holds other entries.
    Folder,
    /// Bytes, so many.
    File(u64),
    /// Text that leads elsewhere.
    Symlink(Box<str>),
    /// Another name of the file of this index.
    HardLink(u32),
}

/// The rule that an entry breaks by itself, so that the whole offer is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EntryFault {
    /// Its path.
    #[error(transparent)]
    Path(#[from] PathFault),
    /// The target of a symbolic link.
    #[error(transparent)]
    Target(#[from] TargetFault),
}

/// Totals as they travel.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct WireTotals {
    /// Number of files.
    pub files: u32,
    /// Number of folders.
    pub folders: u32,
    /// Bytes of all files.
    pub bytes: u64,
    /// Chunks of all files.
    pub chunks: u64,
}

impl WireEntry {
    /// The entry, once its path, and a link's target, are found safe; it may yet be [refused alone](Entry::refusal). Mode
    /// and time are brought into range.
    pub fn check(&self) -> Result<Entry, EntryFault> {
        Ok(Entry {
            path: RelPath::parse_listed(&self.path)?,
            kind: match &self.kind {
                WireKind::Folder => EntryKind::Folder,
                WireKind::File(length) => EntryKind::File { length: Length(*length) },
                WireKind::Symlink(target) => EntryKind::Symlink { target: LinkTarget::parse(target)? },
                WireKind::HardLink(to) => EntryKind::HardLink { to: EntryIndex(*to) },
            },
            mode: Mode::masked(u32::from(self.mode)),
            modified: Timestamp::clamped(self.seconds, self.nanoseconds),
            attributes: self.attributes.clone(),
        })
    }
}

impl From<&Entry> for WireEntry {
    fn from(entry: &Entry) -> Self {
        Self {
            path: entry.path.as_str().into(),
            kind: match &entry.kind {
                EntryKind::Folder => WireKind::Folder,
                EntryKind::File { length } => WireKind::File(length.0),
                EntryKind::Symlink { target } => WireKind::Symlink(target.as_str().into()),
                EntryKind::HardLink { to } => WireKind::HardLink(to.0),
            },
            mode: entry.mode.bits(),
            seconds: entry.modified.seconds(),
            nanoseconds: entry.modified.nanoseconds(),
            attributes: entry.attributes.clone(),
        }
    }
}

impl From<WireTotals> for Totals {
    fn from(WireTotals { files, folders, bytes, chunks }: WireTotals) -> Self {
        Self { files, folders, bytes, chunks }
    }
}

impl From<Totals> for WireTotals {
    fn from(Totals { files, folders, bytes, chunks }: Totals) -> Self {
        Self { files, folders, bytes, chunks }
    }
}

/// Extended attributes travel as a list of names and values. It is checked item by item: what is short on the wire, and
/// would be long in memory, is refused before it is kept.
mod attributes {
    use super::super::message::at_most;
    use super::{Attribute, Attributes};
    use crate::limits::ATTRIBUTES_MAX;
    use crate::manifest::is_good_name;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize)]
    struct Written<'a> {
        name: &'a str,
        #[serde(serialize_with = "as_bytes")]
        value: &'a [u8],
    }

    #[derive(Deserialize)]
    struct Read<'a> {
        name: &'a str,
        value: &'a [u8],
    }

    struct Checked(Attribute);

    impl<'de> Deserialize<'de> for Checked {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let Read { name, value } = Read::deserialize(deserializer)?;
            if is_good_name(name) {
                Ok(Self(Attribute { name: name.into(), value: value.into() }))
            } else {
                Err(D::Error::custom("not the name of an attribute"))
            }
        }
    }

    pub(super) fn serialize<S: Serializer>(attributes: &Attributes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(attributes.list().iter().map(|it| Written { name: &it.name, value: &it.value }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Attributes, D::Error> {
        let list: Vec<Checked> = at_most::<_, _, ATTRIBUTES_MAX>(deserializer)?;
        // Most entries have none.
        if list.is_empty() {
            return Ok(Attributes::NONE);
        }
        Attributes::of(list.into_iter().map(|checked| checked.0).collect()).map_err(D::Error::custom)
    }

    fn as_bytes<S: Serializer>(value: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{FRAME_HEADER_BYTES, Message, MessageFault};

    fn plain(kind: WireKind) -> WireEntry {
        WireEntry { path: "ab".into(), kind, mode: 0, seconds: 0, nanoseconds: 0, attributes: Attributes::NONE }
    }

    fn page(entry: WireEntry) -> Vec<u8> {
        let page = Message::ListingPage { page: 0, entries: vec![entry], totals: None };
        page.to_frame().unwrap()[FRAME_HEADER_BYTES..].to_vec()
    }

    #[test]
    fn row_28_kinds_of_entries_that_are_not_known_are_refused() {
        let known = page(plain(WireKind::HardLink(7)));
        let kind = known.windows(2).position(|pair| pair == [3, 7]).unwrap();
        assert!(Message::decode(&known).is_ok());
        for unknown in [4, 5, 0x7f] {
            let mut body = known.clone();
            body[kind] = unknown;
            assert_eq!(Message::decode(&body), Err(MessageFault::Malformed), "{unknown}");
        }
    }

    #[test]
    fn attributes_that_are_not_a_users_or_not_in_order_are_refused() {
        let attribute = |name: &str| Attribute { name: name.into(), value: [1, 2].as_slice().into() };
        let attributes = Attributes::of(vec![attribute("user.a"), attribute("user.b")]).unwrap();
        let good = page(WireEntry { attributes, ..plain(WireKind::Folder) });
        assert!(Message::decode(&good).is_ok());
        let at = |needle: &[u8]| good.windows(needle.len()).position(|found| found == needle).unwrap();
        for (place, byte) in [(at(b"user.a"), b'U'), (at(b"user.b") + 5, b'a'), (at(b"user.a") + 4, b'/')] {
            let mut body = good.clone();
            body[place] = byte;
            assert_eq!(Message::decode(&body), Err(MessageFault::Malformed), "{place} {byte}");
        }
        // Each of two empty names would take thirty-two bytes of memory.
        let mut body = page(plain(WireKind::Folder));
        let count = body.len() - 2;
        body.splice(count..=count, [2, 0, 0, 0, 0]);
        assert_eq!(Message::decode(&body), Err(MessageFault::Malformed));
    }
}
