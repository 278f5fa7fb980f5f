//! Roots of whole files as their chunks are hashed.

use crate::chunk::{ChunkIndex, Geometry, Length};
use crate::digest::{ChunkDigest, FileDigest, RootMerger};

/// Makes the roots of files whose chunks come in order, file after file.
#[derive(Debug, Default)]
pub(super) struct Roots {
    /// The file under way.
    merger: Option<(u32, RootMerger)>,
}

impl Roots {
    /// Takes the hashes of a file's chunks from `first` on, and returns the file's root if they complete it.
    pub(super) fn push(
        &mut self,
        (entry, length): (u32, Length),
        first: ChunkIndex,
        digests: impl Iterator<Item = ChunkDigest>,
    ) -> Option<FileDigest> {
        if first == ChunkIndex(0) {
            self.merger = Geometry::of(length).map(|geometry| (entry, RootMerger::new(geometry)));
        }
        let (_, merger) = self.merger.as_mut().filter(|(under_way, _)| *under_way == entry)?;
        let mut root = None;
        for digest in digests {
            root = merger.push(digest).or(root);
        }
        if root.is_some() {
            self.merger = None;
        }
        root
    }
}
