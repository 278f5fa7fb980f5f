//! A manifest that an offer has to be the content of.

use super::file::ManifestFile;
use crate::chunk_set::ChunkSet;
use crate::digest::{ChunkDigest, FileDigest, ManifestId};
use crate::manifest::{EntryIndex, EntryKind, Listing, SealHasher};
use crate::printable::printable;
use crate::transfer::TransferError;
use crate::wire::Message;
use std::cmp::Ordering;
use std::sync::Arc;

/// What an offer has to be: paths, kinds, lengths and content of a manifest.
///
/// Permission bits and times are not compared: they are no content, a check leaves them out as well unless it is told
/// otherwise, and a copy on another file system seldom has the same.
#[derive(Clone, Debug)]
pub struct Expectation {
    manifest: ManifestFile,
    /// What a check found, where this is a repair.
    part: Option<Arc<Part>>,
}

#[derive(Debug)]
struct Part {
    whole: ChunkSet,
    wanted: ChunkSet,
}

/// What a repair does about a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::transfer) enum Need {
    /// It is fetched.
    Fetch,
    /// Neither it nor what has its place is touched.
    Leave,
    /// It was found whole.
    Whole,
}

impl Expectation {
    /// All of `manifest`.
    pub fn new(manifest: ManifestFile) -> Self {
        Self { manifest, part: None }
    }

    /// The content of `manifest`, of which the entries `wanted` are fetched and the entries `whole` are here.
    pub(super) fn of_repair(manifest: ManifestFile, whole: ChunkSet, wanted: ChunkSet) -> Self {
        Self { manifest, part: Some(Arc::new(Part { whole, wanted })) }
    }

    /// The manifest.
    pub fn manifest(&self) -> &ManifestFile {
        &self.manifest
    }

    /// What a repair does about the file at `entry`; `None` where this is no repair.
    pub(in crate::transfer) fn need(&self, entry: EntryIndex) -> Option<Need> {
        let part = self.part.as_ref()?;
        let number = u64::from(entry.0);
        Some(if part.wanted.contains(number) {
            Need::Fetch
        } else if part.whole.contains(number) {
            Need::Whole
        } else {
            Need::Leave
        })
    }

    /// Whether what the sender says of the content of `offered` is what the manifest says.
    pub(in crate::transfer) fn check(
        &self,
        message: &Message,
        offered: impl FnOnce() -> Option<Arc<Listing>>,
        seals_everything: impl FnOnce() -> bool,
    ) -> Result<(), TransferError> {
        match message {
            Message::HashPage { first, digests } => self.check_digests(*first, digests),
            // A seal that leaves files out is compared with what came of the others alone, as ever.
            Message::Seal { manifest } if seals_everything() => {
                offered().map_or(Ok(()), |offered| self.check_seal(&offered, ManifestId(*manifest)))
            }
            _ => Ok(()),
        }
    }

    /// Whether `offered` lists what the manifest does. Its chunks then have the same numbers.
    pub(in crate::transfer) fn check_listing(&self, offered: &Listing) -> Result<(), TransferError> {
        let expected = self.manifest.listing();
        let (mut left, mut right) = (expected.entries().iter().peekable(), offered.entries().iter().peekable());
        loop {
            let order = match (left.peek(), right.peek()) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(one), Some(other)) => one.path.cmp(&other.path),
            };
            match (order, left.next_if(|_| order.is_le()), right.next_if(|_| order.is_ge())) {
                (_, Some(missing), None) => return Err(unexpected(missing.path.as_str(), "is not offered")),
                (_, None, Some(extra)) => {
                    return Err(unexpected(extra.path.as_str(), "is offered and not in the manifest"));
                }
                (_, Some(one), Some(other)) if one.kind == other.kind => {}
                (_, Some(one), Some(other)) => {
                    let what = match (&one.kind, &other.kind) {
                        (EntryKind::File { length: one }, EntryKind::File { length: other }) => {
                            format!("is offered with {} bytes instead of {}", other.0, one.0)
                        }
                        _ => "is offered as something else than in the manifest".to_owned(),
                    };
                    return Err(unexpected(one.path.as_str(), &what));
                }
                (_, None, None) => return Ok(()),
            }
        }
    }

    /// Whether the hashes of the chunks from `first` on are those of the manifest, as far as it has that many.
    fn check_digests(&self, first: u64, digests: &[ChunkDigest]) -> Result<(), TransferError> {
        let listing = self.manifest.listing();
        let end = first.saturating_add(digests.len() as u64).min(listing.totals().chunks);
        if first >= end {
            return Ok(());
        }
        let expected = self.manifest.digests(first..end)?;
        let Some(wrong) = expected.iter().zip(digests).position(|(one, other)| one != other) else { return Ok(()) };
        let place = listing.place(first + wrong as u64);
        let path = place.and_then(|place| listing.entry(place.entry)).map_or("", |entry| entry.path.as_str());
        let chunk = place.map_or(0, |place| place.index.0);
        Err(unexpected(path, &format!("is offered with other content: chunk {chunk} differs")))
    }

    /// Whether an earlier run that published `root` at `entry` published what the manifest says.
    pub(in crate::transfer) fn has_root(&self, entry: EntryIndex, root: FileDigest) -> Result<bool, TransferError> {
        self.manifest.root(entry).map(|expected| expected == root)
    }

    /// Whether `sealed`, the id that both sides of a complete transfer agree on, is made of the roots of the manifest.
    fn check_seal(&self, offered: &Listing, sealed: ManifestId) -> Result<(), TransferError> {
        let mut seal = SealHasher::new(offered.digest());
        for entry in offered.files() {
            seal.push(Some(self.manifest.root(entry)?));
        }
        if seal.finish() == sealed { Ok(()) } else { Err(TransferError::Unexpected("the seal differs".into())) }
    }
}

fn unexpected(path: &str, what: &str) -> TransferError {
    TransferError::Unexpected(format!("`{}` {what}", printable(path)).into())
}
