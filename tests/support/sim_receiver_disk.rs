//! What the receiving process of a simulation does with its disk.

use super::sim_receiver::{OnConflict, ReceiverEvent, ReceiverHost};
use super::sim_sender::Around;
use super::sim_shelf::{Refused, Shelf, ShelfLink};
use haul::chunk::ChunkIndex;
use haul::chunk_set::ChunkSet;
use haul::digest::{ChunkDigest, FileDigest};
use haul::manifest::{Entry, EntryIndex, EntryKind};
use haul::session::{FileFault, Input, Plan, Verdict};

impl<S: Shelf> ReceiverHost<S> {
    pub(super) fn decide(&mut self, around: &mut Around) {
        if around.core.strikes(around.core.faults.declined) {
            self.tell(around, Input::Declined);
            return;
        }
        let listing = self.session.listing().unwrap().clone();
        self.watch.offered(&listing);
        if let Err(error) = self.shelf.start(&self.folders()) {
            self.watch.check(around.core.has_bad_disk(), || format!("the destination cannot be used: {error}"));
            self.tell(around, Input::Declined);
            return;
        }
        let plans = listing.entries().iter().map(|entry| {
            if entry.kind == EntryKind::Folder {
                Plan::Folder
            } else if entry.is_link() {
                let is_skipped = self.on_conflict == OnConflict::Skip && self.shelf.exists(&entry.path);
                if is_skipped { Plan::Skip } else { Plan::Link }
            } else if let Some(root) = self.watch.root_recorded(&entry.path, listing.digest()) {
                Plan::Done { root }
            } else if self.shelf.exists(&entry.path) {
                if self.on_conflict == OnConflict::Skip { Plan::Skip } else { Plan::Compare }
            } else if around.core.strikes(20) {
                Plan::Failed
            } else {
                Plan::Fetch
            }
        });
        self.plans = plans.collect();
        for (entry, plan) in (0..).map(EntryIndex).zip(&self.plans) {
            around.core.counts.add(plan_name(plan), 1);
            if *plan == Plan::Failed {
                self.watch.file_failed(entry, FileFault::Disk);
            }
        }
        let plans = self.plans.clone();
        self.tell(around, Input::Accepted(plans));
    }

    pub(super) fn file_opened(&mut self, around: &mut Around, entry: EntryIndex) {
        if self.watch.has_failed(entry) {
            return;
        }
        let (path, _) = self.file(entry);
        let geometry = self.session.listing().unwrap().geometry(entry).unwrap();
        match self.shelf.open(&path, geometry) {
            Ok(_) if around.core.disk_fails() => self.disk_failed(around, entry, "the disk fails"),
            Ok(mut claims) => {
                let candidates = self.candidates(around, &path, geometry);
                let has_older = candidates.is_some();
                claims.union(&candidates.unwrap_or_default());
                around.core.note("file opens", u64::from(entry.0), claims.len());
                self.tell(around, Input::FileOpened { entry, claims, has_older });
            }
            Err(error) => self.disk_failed(around, entry, &error),
        }
    }

    pub(super) fn claims_checked(
        &mut self,
        around: &mut Around,
        entry: EntryIndex,
        chunks: &[(ChunkIndex, ChunkDigest)],
    ) {
        if self.watch.has_failed(entry) {
            return;
        }
        let first = self.session.listing().unwrap().chunks_of(entry).start;
        let (mut checked, mut good) = (ChunkSet::new(), ChunkSet::new());
        for &(index, promised) in chunks {
            let number = first + u64::from(index.0);
            checked.insert(number..number + 1);
            match self.has_chunk(around, entry, (index, promised)) {
                Ok(true) => good.insert(number..number + 1),
                Ok(false) => {}
                Err(error) => {
                    self.disk_failed(around, entry, &error);
                    return;
                }
            }
        }
        good.ranges().flatten().for_each(|chunk| self.chunk_lies(around, chunk));
        around.core.counts.add("claims found good", good.len());
        around.core.counts.add("claims found bad", checked.len() - good.len());
        self.tell(around, Input::ClaimsChecked { entry, checked, good });
    }

    pub(super) fn compared(&mut self, around: &mut Around, entry: EntryIndex, root: FileDigest) {
        let (path, _) = self.file(entry);
        let geometry = self.session.listing().unwrap().geometry(entry).unwrap();
        let verdict = match self.shelf.root_of(&path, geometry) {
            Some(found) if found == root => {
                self.shelf.vouch_for(&path, geometry);
                self.watch.done(entry);
                Verdict::Identical
            }
            _ if self.on_conflict == OnConflict::Overwrite => Verdict::Fetch,
            _ => Verdict::Keep,
        };
        around.core.counts.add("compared", 1);
        self.tell(around, Input::Compared { entry, verdict });
    }

    pub(super) fn publish(&mut self, around: &mut Around, entry: EntryIndex, root: FileDigest) {
        let (path, modified) = self.file(entry);
        let geometry = self.session.listing().unwrap().geometry(entry).unwrap();
        if around.core.disk_fails() {
            self.disk_failed(around, entry, "the disk fails");
            return;
        }
        let replace = self.on_conflict == OnConflict::Overwrite;
        if self.shelf.exists(&path) && self.shelf.root_of(&path, geometry) == Some(root) {
            self.shelf.close(&path);
            self.shelf.vouch_for(&path, geometry);
            around.core.counts.add("published before", 1);
        } else {
            self.watch.publishing(&path, root);
            match self.shelf.publish(&path, root, modified, replace) {
                Ok(()) => self.watch.published(&self.shelf, around.source, &path, root),
                Err(Refused::Exists) => {
                    self.tell(around, Input::FileFailed { entry, fault: FileFault::Exists });
                    return;
                }
                Err(Refused::Disk(error)) => {
                    self.disk_failed(around, entry, &error);
                    return;
                }
            }
        }
        self.soon(around.core, ReceiverEvent::Published { entry, root });
    }

    pub(super) fn make_link(&mut self, around: &mut Around, entry: EntryIndex) {
        let listing = self.session.listing().unwrap().clone();
        let Entry { path, kind, modified, .. } = listing.entry(entry).unwrap();
        if around.core.disk_fails() {
            self.disk_failed(around, entry, "the disk fails");
            return;
        }
        let link = match kind {
            EntryKind::Symlink { target } => ShelfLink::Symbolic(target.clone()),
            EntryKind::HardLink { to } => {
                if self.plans[to.as_usize()] == Plan::Skip {
                    // What is under that name is something else.
                    self.tell(around, Input::FileFailed { entry, fault: FileFault::FirstFailed });
                    return;
                }
                let (first, listed) = self.file(*to);
                let root = FileDigest(*blake3::hash(around.source.listed_bytes(&first, listed)).as_bytes());
                self.watch.publishing(path, root);
                ShelfLink::Hard { first, root, geometry: listing.geometry(*to).unwrap() }
            }
            EntryKind::File { .. } | EntryKind::Folder => unreachable!("no link"),
        };
        let replace = self.on_conflict == OnConflict::Overwrite;
        match self.shelf.link(path, &link, *modified, replace) {
            Ok(()) => {
                if let ShelfLink::Hard { root, .. } = link {
                    self.watch.published(&self.shelf, around.source, path, root);
                }
                around.core.counts.add("links made", 1);
                self.soon(around.core, ReceiverEvent::LinkMade { entry });
            }
            Err(Refused::Exists) => self.tell(around, Input::FileFailed { entry, fault: FileFault::Exists }),
            Err(Refused::Disk(error)) => self.disk_failed(around, entry, &error),
        }
    }

    pub(super) fn chunk_lies(&mut self, around: &mut Around, chunk: u64) {
        let (path, _) = self.file(self.entry_of(chunk));
        self.watch.stored(around.source, &self.shelf, &path, chunk);
    }

    pub(super) fn disk_failed(&mut self, around: &mut Around, entry: EntryIndex, error: &str) {
        around.core.note("disk failure", u64::from(entry.0), 0);
        self.watch.check(around.core.has_bad_disk(), || format!("the disk refuses entry {}: {error}", entry.0));
        self.tell(around, Input::FileFailed { entry, fault: FileFault::Disk });
    }
}

fn plan_name(plan: &Plan) -> &'static str {
    match plan {
        Plan::Compare => "plan compare",
        Plan::Done { .. } => "plan done",
        Plan::Failed => "plan failed",
        Plan::Fetch => "plan fetch",
        Plan::Folder => "plan folder",
        Plan::Link => "plan link",
        Plan::Skip => "plan skip",
        Plan::Weigh => "plan weigh",
    }
}
