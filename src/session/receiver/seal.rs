//! The end of the hashes: both ends come to one manifest id, or the session ends.

use super::fetch::{Closing, Fetch};
use crate::digest::FileDigest;
use crate::manifest::{EntryIndex, SealHasher};
use crate::session::PeerFault;

impl Fetch {
    /// The files that the seal has no root of.
    pub(super) fn without_root(&self) -> Vec<u32> {
        self.listing.files().filter(|&entry| self.sealed_root(entry).is_none()).map(|entry| entry.0).collect()
    }

    /// Compares the sender's manifest id with what its hashes make.
    pub(super) fn check_seal(&mut self, manifest: [u8; 32]) -> Result<(), PeerFault> {
        if self.closing != Closing::Seal {
            return Err(PeerFault::OutOfTurn("Seal"));
        }
        let mut seal = SealHasher::new(self.listing.digest());
        self.listing.files().for_each(|entry| seal.push(self.sealed_root(entry)));
        let own = seal.finish();
        if own.0 != manifest {
            return Err(PeerFault::Seal);
        }
        self.manifest = Some(own);
        self.closing = Closing::Files;
        Ok(())
    }

    /// The root that the seal has of a file: none where it failed before all of its hashes came.
    fn sealed_root(&self, entry: EntryIndex) -> Option<FileDigest> {
        self.root(entry).filter(|_| !self.unconfirmed.contains(&entry))
    }
}
