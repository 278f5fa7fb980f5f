//! The last word of a manifest: one digest over its listing and every file's root.

use crate::digest::{FileDigest, ListingDigest, ManifestId, PurposeHasher};

/// Takes the root of every file in listing order; both ends must come to the same manifest id.
#[derive(Clone, Debug)]
pub struct SealHasher {
    hasher: PurposeHasher,
}

impl SealHasher {
    /// A hasher for the files of the listing that has this digest.
    pub fn new(listing: ListingDigest) -> Self {
        Self { hasher: PurposeHasher::keyed("haul 1 manifest", &listing.0) }
    }

    /// Takes the next file's root, or notes that the file failed and has none.
    pub fn push(&mut self, root: Option<FileDigest>) {
        match root {
            Some(root) => self.hasher.field(&root.0),
            None => self.hasher.field(&[]),
        };
    }

    /// The manifest's id.
    pub fn finish(&self) -> ManifestId {
        ManifestId(self.hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listing_roots_and_their_order_all_count() {
        let of = |listing: u8, roots: &[Option<u8>]| {
            let mut seal = SealHasher::new(ListingDigest([listing; 32]));
            for root in roots {
                seal.push(root.map(|byte| FileDigest([byte; 32])));
            }
            seal.finish()
        };
        let base = of(1, &[Some(1), Some(2)]);
        for other in [of(2, &[Some(1), Some(2)]), of(1, &[Some(2), Some(1)]), of(1, &[Some(1), None])] {
            assert_ne!(base, other);
        }
        assert_eq!(base, of(1, &[Some(1), Some(2)]));
    }
}
