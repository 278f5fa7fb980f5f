//! A dry run of links: what would become of each, which for another name of a file depends on what becomes of that file.

use super::engine::{Engine, lock};
use super::foresee::Prospect;
use super::{Conflict, FailureClass, Fate, failed, links};
use crate::digest::FileDigest;
use crate::manifest::{Entry, EntryIndex, EntryKind, Listing};
use crate::session::{FileFault, Plan};
use crate::store::{Disk, Existing, StoreError};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Hard links under whose names a file is that may be the same, by the file that they are names of.
#[derive(Debug, Default)]
pub(super) struct Twins(Mutex<BTreeMap<EntryIndex, Vec<EntryIndex>>>);

impl Twins {
    /// Notes those links, and has the hashes of their files told: also of one that is fetched, of which none else are.
    pub(super) fn expect(&self, listing: &Listing, prospects: &[Prospect], plans: &mut [Plan]) {
        let mut twins = lock(&self.0);
        for ((index, entry), prospect) in (0..).map(EntryIndex).zip(listing.entries()).zip(prospects) {
            let EntryKind::HardLink { to } = entry.kind else { continue };
            let (Some(first), Some(plan)) = (prospects.get(to.as_usize()), plans.get_mut(to.as_usize())) else {
                continue;
            };
            let is_fetched = matches!(first.fate, Fate::Fetch | Fate::Rename | Fate::Replace);
            if !prospect.is_compared || !(is_fetched || first.is_compared) {
                continue;
            }
            if *plan == Plan::Skip {
                *plan = Plan::Compare;
            }
            twins.entry(to).or_default().push(index);
        }
    }

    fn of(&self, entry: EntryIndex) -> Vec<EntryIndex> {
        lock(&self.0).remove(&entry).unwrap_or_default()
    }
}

/// What would become of a link, as far as that is known before the file is that it may be another name of.
pub(super) fn prospect<D: Disk>(
    engine: &Engine<'_, D>,
    entry: &Entry,
    existing: Existing,
    conflict: Conflict,
) -> Prospect {
    let is_symbolic = matches!(entry.kind, EntryKind::Symlink { .. });
    if is_symbolic && !engine.settings.symlinks {
        return Prospect::of(Fate::Unasked);
    }
    match (existing, conflict) {
        (Existing::Nothing, _) => return Prospect::of(Fate::Make),
        (_, Conflict::Skip) => return Prospect::of(Fate::Skip),
        _ => {}
    }
    let may_be_same = links::may_be_same(engine, entry, existing);
    let is_empty = matches!(existing, Existing::File { length } if length.0 == 0);
    if may_be_same && (is_symbolic || is_empty) {
        return Prospect::of(Fate::Reuse);
    }
    let fate = match conflict {
        Conflict::Overwrite | Conflict::Update if engine.store.gives_way_to_link(&entry.path).unwrap_or(false) => {
            Fate::Replace
        }
        Conflict::Fail | Conflict::Overwrite | Conflict::Skip | Conflict::Update => Fate::Conflict,
        Conflict::Rename => Fate::Rename,
    };
    Prospect::of(fate).compared(may_be_same)
}

/// Compares what is there under the further names of a file, now that its root is known.
pub(super) fn compare<D: Disk>(engine: &Engine<'_, D>, first: EntryIndex, root: FileDigest) {
    let Some(geometry) = engine.listing().geometry(first) else { return };
    for link in engine.outlook.twins.of(first) {
        let Some(listed) = engine.listing().entry(link) else { continue };
        match engine.store.hash_existing(&listed.path, geometry) {
            // The run is over.
            Err(StoreError::Halted { .. }) => return,
            Err(fault) => {
                let failure = failed::file(listed.path.as_str(), &FileFault::Disk, Some(&fault));
                engine.entry_failed(&listed.path, failure.fault, failure.class);
            }
            Ok(Some(found)) if found == root => {
                if let Some(prospect) = lock(&engine.outlook.prospects).get_mut(link.as_usize()) {
                    prospect.fate = Fate::Reuse;
                }
            }
            Ok(_) => {}
        }
    }
}

/// How a hard link would fail for its file, of which `first` would become, and which failed as `failed` if it did.
pub(super) fn fault_of_first(link: Prospect, first: Fate, failed: Option<FailureClass>) -> Option<FailureClass> {
    let is_settled =
        matches!(link.fate, Fate::Refuse | Fate::Skip) || (link.fate == Fate::Conflict && !link.is_compared);
    match first {
        _ if is_settled => None,
        Fate::Conflict => Some(FailureClass::Exists),
        Fate::Fail => Some(failed.unwrap_or(FailureClass::Partial)),
        Fate::Refuse => Some(FailureClass::Name),
        // What is under the file's name is something else.
        Fate::Skip => Some(FailureClass::Partial),
        _ => None,
    }
}
