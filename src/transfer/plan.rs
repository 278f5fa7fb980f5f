//! What is to become of each entry, once the listing is known: what is there, what an earlier run did, what room it takes.

use super::engine::Engine;
use super::integrity::Need;
use super::publisher::{publication, tell_of_lost_attributes};
use super::unfinished::Records;
use super::{Conflict, FailureClass, FileOutcome, OfferLine, OfferSummary, TransferError, failed, links};
use crate::chunk::Length;
use crate::digest::{FileDigest, empty_file_digest};
use crate::limits::FREE_SPACE_MARGIN_BYTES;
use crate::manifest::{Entry, EntryIndex, EntryKind, Listing};
use crate::rel_path::RelPath;
use crate::session::{FileFault, Plan};
use crate::store::{Disk, Existing, Folding, PartGlance, Store, StoreError};
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use unicode_normalization::UnicodeNormalization;

/// What is under each entry's name at the destination.
pub(super) struct Survey {
    pub(super) existing: Vec<Existing>,
    /// Entries whose names the destination cannot hold, with what it said.
    pub(super) unnameable: HashMap<EntryIndex, String>,
    /// What was begun of files for another length than they have now.
    outdated: Vec<Outdated>,
    /// Bytes that everything takes which is not there.
    pub(super) needed: u64,
    /// Bytes that are free.
    pub(super) free: u64,
    /// Entries that have to be made, each of which takes an inode.
    made: u64,
    /// Inodes that are free.
    inodes: u64,
}

/// What was begun of a file when it had another length.
struct Outdated {
    index: EntryIndex,
    begun: Length,
    part: PartGlance,
}

/// What becomes of a file, as far as that is known before its root is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Course {
    /// What is there may be the same.
    Compare,
    /// An earlier run published it.
    Done(FileDigest),
    /// The name is taken, and no rule says what to do about that.
    Exists,
    Fetch,
    /// The same is there: of an empty file that needs no root.
    Same,
    Skip,
}

/// Looks at every name of the listing, and at the room that everything takes. What other transfers have begun is none of its.
pub(super) fn survey<D: Disk>(store: &Store<D>, listing: &Listing, records: &Records) -> Result<Survey, TransferError> {
    let refuse = |fault| failed::store("cannot look at the destination", fault);
    let mut existing = Vec::with_capacity(listing.entries().len());
    let (mut needed, mut made) = (0u64, 0u64);
    let parts = store.glance_at_parts().map_err(refuse)?;
    let mut begun: HashMap<RelPath, Vec<(Length, PartGlance)>> = HashMap::new();
    for part in parts {
        if let Some((path, length)) = part.destined.clone() {
            begun.entry(path).or_default().push((length, part));
        }
    }
    let mut outdated = Vec::new();
    // Nothing lies in a folder that is not there, so it is not looked for: a new tree has one look for each folder.
    let mut missing = HashSet::new();
    let mut unnameable = HashMap::new();
    for (index, entry) in (0..).map(EntryIndex).zip(listing.entries()) {
        if entry.refusal().is_some() {
            existing.push(Existing::Nothing);
            continue;
        }
        let found = if entry.path.parent().is_some_and(|folder| missing.contains(&folder)) {
            Existing::Nothing
        } else {
            match store.look(&entry.path) {
                // Something else than a folder is in the way; making the folder fails with that reason.
                Err(StoreError::NotAFolder { .. }) => Existing::Other,
                // It fails alone, with that reason.
                Err(fault @ StoreError::Name { .. }) => {
                    unnameable.insert(index, fault.to_string());
                    Existing::Nothing
                }
                found => found.map_err(refuse)?,
            }
        };
        if entry.kind == EntryKind::Folder && found == Existing::Nothing {
            missing.insert(entry.path.clone());
        }
        if let EntryKind::File { length } = entry.kind {
            let is_same_length = found == (Existing::File { length });
            let is_fetched = !is_same_length && !unnameable.contains_key(&index);
            let mut parts = begun.remove(&entry.path).unwrap_or_default();
            parts.retain(|(begun, _)| *begun == length || !records.are_others_of(&entry.path, *begun));
            if is_fetched && !parts.iter().any(|(begun, _)| *begun == length) {
                // What is taken over has its room already.
                let room = parts.iter().map(|(_, part)| part.bytes).max();
                needed = needed.saturating_add(length.0.saturating_sub(room.unwrap_or(0)));
                made += u64::from(room.is_none());
            }
            outdated.extend(parts.into_iter().filter(|(begun, _)| *begun != length).map(|(begun, part)| Outdated {
                index,
                begun,
                part,
            }));
        } else if found == Existing::Nothing && entry.kind == EntryKind::Folder {
            made += 1;
        }
        existing.push(found);
    }
    // Of several that were begun of one file, the one that holds most is taken over.
    outdated.sort_by_key(|outdated| (outdated.index, Reverse(outdated.part.claimed)));
    let space = store.space().map_err(refuse)?;
    let needed = if needed == 0 { 0 } else { needed.saturating_add(FREE_SPACE_MARGIN_BYTES) };
    Ok(Survey { existing, unnameable, outdated, needed, free: space.bytes, made, inodes: space.inodes })
}

impl Survey {
    /// Takes over what was begun of files that have another length now: chunks of them may not have changed. What another
    /// transfer comes back for is left alone, and what is of no use goes only where the offer that it was of is gone.
    pub(super) fn take_over<D: Disk>(&self, store: &Store<D>, listing: &Listing, records: &Records) {
        for Outdated { index, begun, part } in &self.outdated {
            let entry = listing.entry(*index).and_then(|entry| Some((&entry.path, entry.file_length()?)));
            let Some((path, length)) = entry.filter(|(path, _)| !records.are_others_of(path, *begun)) else { continue };
            // What stays as it is only takes room; it is listed as unfinished, and can be removed there.
            if store.readdress(&part.name, path, length).is_ok_and(|is_taken| !is_taken)
                && records.are_superseded_of(path, *begun)
            {
                let _ = store.remove_left_over(&part.name);
            }
        }
    }

    /// Refuses what does not fit.
    pub(super) fn refuse_lack(&self) -> Result<(), TransferError> {
        let Self { needed, free, made, inodes, .. } = *self;
        if needed > free {
            Err(TransferError::NoSpace { needed, free })
        } else if made > inodes {
            Err(TransferError::NoInodes { needed: made, free: inodes })
        } else {
            Ok(())
        }
    }
}

/// What the user is asked about.
pub(super) fn summary(listing: &Listing, survey: &Survey, makes_symlinks: bool) -> OfferSummary {
    let totals = listing.totals();
    let is_refused = |entry: &Entry| {
        entry.refusal().is_some() || (matches!(entry.kind, EntryKind::Symlink { .. }) && !makes_symlinks)
    };
    let lines = listing.entries().iter().zip(&survey.existing).map(|(entry, existing)| OfferLine {
        path: entry.path.as_str().to_owned(),
        folder: entry.kind == EntryKind::Folder,
        bytes: entry.file_length().map_or(0, |length| length.0),
        exists: *existing != Existing::Nothing,
        hidden: entry.path.is_hidden(),
        refused: is_refused(entry),
        link: links::offered(listing, entry),
    });
    OfferSummary {
        entries: lines.collect(),
        truncated: 0,
        files: u64::from(totals.files),
        folders: u64::from(totals.folders),
        bytes: totals.bytes,
        free_bytes: Some(survey.free),
    }
}

/// Hidden names right in the home folder configure what runs there, so they need their own word.
pub(super) fn refuse_hidden<D: Disk>(engine: &Engine<'_, D>, is_home: bool) -> Result<(), TransferError> {
    let hidden = engine.listing().entries().iter().find(|entry| entry.path.is_hidden_at_top());
    match hidden {
        Some(entry) if is_home && !engine.settings.allow_hidden => Err(TransferError::Io {
            what: format!("`{}` would be a hidden name in your home folder", entry.path.as_str()),
            cause: "choose another folder with --into, or allow it with --allow-hidden".into(),
        }),
        _ => Ok(()),
    }
}

/// Makes the folders and decides about each entry.
pub(super) fn plans<D: Disk>(
    engine: &Engine<'_, D>,
    survey: &Survey,
    published: &HashMap<EntryIndex, FileDigest>,
) -> Vec<Plan> {
    engine.links.expect(engine.listing());
    note_unasked_attributes(engine);
    let entries = engine.listing().entries().iter().zip(&survey.existing);
    // Folders that cannot be there for their names, with what was said of the first on the way down.
    let mut lost: HashMap<RelPath, String> = HashMap::new();
    let mut plan = |(index, (entry, existing)): (EntryIndex, (&Entry, &Existing))| {
        let of_name = survey.unnameable.get(&index).or_else(|| lost.get(&entry.path.parent()?)).cloned();
        match (entry.refusal(), of_name, &entry.kind) {
            (Some(fault), ..) => engine.fail_plan(entry, fault.to_string(), FailureClass::Name),
            (None, Some(fault), kind) => {
                if *kind == EntryKind::Folder {
                    lost.insert(entry.path.clone(), fault.clone());
                }
                engine.fail_plan(entry, fault, FailureClass::Name)
            }
            (None, None, EntryKind::Folder) => make_folder(engine, entry, &mut lost),
            (None, None, EntryKind::HardLink { .. } | EntryKind::Symlink { .. }) => {
                links::plan(engine, entry, *existing)
            }
            (None, None, EntryKind::File { .. }) => plan_file(engine, index, entry, *existing, published.get(&index)),
        }
    };
    (0..).map(EntryIndex).zip(entries).map(&mut plan).collect()
}

/// Says that attributes of the offer are not set, where nobody asked for them.
pub(super) fn note_unasked_attributes<D: Disk>(engine: &Engine<'_, D>) {
    let with_some = engine.listing().entries().iter().filter(|entry| !entry.attributes.is_empty()).count();
    if with_some > 0 && !engine.settings.attributes {
        engine
            .notice(format!("the extended attributes of {with_some} files and folders are left out without --xattrs"));
    }
}

fn make_folder<D: Disk>(engine: &Engine<'_, D>, entry: &Entry, lost: &mut HashMap<RelPath, String>) -> Plan {
    match engine.store.make_folder(&entry.path) {
        Ok(()) => Plan::Folder,
        Err(fault @ StoreError::Name { .. }) => {
            lost.insert(entry.path.clone(), fault.to_string());
            engine.fail_plan(entry, fault.to_string(), FailureClass::Name)
        }
        Err(fault) => engine.fail_plan(entry, fault.to_string(), FailureClass::Exists),
    }
}

fn plan_file<D: Disk>(
    engine: &Engine<'_, D>,
    index: EntryIndex,
    entry: &Entry,
    existing: Existing,
    published: Option<&FileDigest>,
) -> Plan {
    if let Some(need) = engine.settings.expect.as_ref().and_then(|expect| expect.need(index)) {
        return plan_repair(engine, index, entry, existing, need);
    }
    match course(entry, existing, published, engine.conflict()) {
        Course::Done(root) => {
            let bytes = entry.file_length().map_or(0, |length| length.0);
            engine.reuse(bytes);
            engine.file_done(index, root, FileOutcome::Identical);
            Plan::Done { root }
        }
        Course::Fetch => Plan::Fetch,
        Course::Same => {
            let root = empty_file_digest();
            if let Err(fault) = take_for_received(engine, entry) {
                let failure = failed::file(entry.path.as_str(), &FileFault::Disk, Some(&fault));
                return engine.fail_plan(entry, failure.fault, failure.class);
            }
            engine.file_done(index, root, FileOutcome::Identical);
            Plan::Done { root }
        }
        Course::Compare => Plan::Compare,
        Course::Skip => {
            engine.file_done(index, empty_file_digest(), FileOutcome::SkippedExisting);
            Plan::Skip
        }
        Course::Exists => {
            let fault = StoreError::Exists { path: entry.path.as_str().into() };
            engine.fail_plan(entry, fault.to_string(), FailureClass::Exists)
        }
    }
}

/// Counts a file with the content of `entry` as received that was there before. Where that is wanted, it gets mode, time and
/// attributes as well.
pub(super) fn take_for_received<D: Disk>(engine: &Engine<'_, D>, entry: &Entry) -> Result<(), StoreError> {
    if engine.conflict() == Conflict::Update {
        let lost = engine.store.bring_in_line(&publication(engine, entry))?;
        tell_of_lost_attributes(engine, &entry.path, &lost);
    }
    engine.store.vouch_for(&entry.path, entry.file_length().unwrap_or(Length(0)));
    Ok(())
}

/// What becomes of a file whose name stands for `existing`, and that an earlier run `published`.
pub(super) fn course(entry: &Entry, existing: Existing, published: Option<&FileDigest>, conflict: Conflict) -> Course {
    let same_length = entry.file_length().is_some_and(|length| existing == Existing::File { length });
    match (existing, published, conflict) {
        (_, Some(&root), _) if same_length => Course::Done(root),
        (Existing::Nothing, ..) => Course::Fetch,
        (_, _, Conflict::Skip) => Course::Skip,
        (Existing::File { length: Length(0) }, ..) if same_length => Course::Same,
        (Existing::File { .. }, ..) if same_length => Course::Compare,
        (Existing::File { .. }, _, Conflict::Overwrite | Conflict::Update) | (_, _, Conflict::Rename) => Course::Fetch,
        _ => Course::Exists,
    }
}

/// Decides about a file by what a check found. What is whole is not looked at again.
fn plan_repair<D: Disk>(
    engine: &Engine<'_, D>,
    index: EntryIndex,
    entry: &Entry,
    existing: Existing,
    need: Need,
) -> Plan {
    let root = engine.settings.expect.as_ref().map(|expect| expect.manifest().root(index));
    match (need, existing, root) {
        (Need::Whole, Existing::File { length }, Some(Ok(root))) if entry.file_length() == Some(length) => {
            engine.reuse(length.0);
            engine.file_done(index, root, FileOutcome::Identical);
            Plan::Done { root }
        }
        (Need::Fetch | Need::Whole, Existing::File { .. } | Existing::Nothing, _) => Plan::Fetch,
        _ => {
            let fault = StoreError::Exists { path: entry.path.as_str().into() };
            engine.fail_plan(entry, fault.to_string(), FailureClass::Exists)
        }
    }
}

/// Refuses names that the destination takes for one. Whether it does is tried out there, not guessed.
pub(super) fn refuse_collisions<D: Disk>(store: &Store<D>, listing: &Listing) -> Result<(), TransferError> {
    let folding = store.folding().map_err(|fault| failed::store("cannot write to the destination", fault))?;
    let paths = listing.entries().iter().map(|entry| &entry.path).filter(|path| path.refusal().is_none());
    match collision(paths, folding) {
        None => Ok(()),
        Some(path) => Err(TransferError::Io {
            what: format!("`{}` and another name of the offer are one name at the destination", path.as_str()),
            cause: "choose a folder on a file system that tells them apart".into(),
        }),
    }
}

/// The first path that another one before it shares its name with, where names fold so.
fn collision<'a>(mut paths: impl Iterator<Item = &'a RelPath>, folding: Folding) -> Option<&'a RelPath> {
    if !folding.case && !folding.form {
        return None;
    }
    let mut seen = HashSet::new();
    paths.find(|path| !seen.insert(folded(path, folding)))
}

fn folded(path: &RelPath, folding: Folding) -> String {
    let form: String = if folding.form { path.as_str().nfc().collect() } else { path.as_str().to_owned() };
    if folding.case { form.to_lowercase() } else { form }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_20_names_collide_where_the_destination_folds_them_and_nowhere_else() {
        let (case, form) = (Folding { case: true, form: false }, Folding { case: false, form: true });
        let (neither, both) = (Folding { case: false, form: false }, Folding { case: true, form: true });
        let cases = [
            (["README", "readme"], vec![case, both]),
            (["\u{e9}", "e\u{301}"], vec![form, both]),
            (["\u{c9}", "e\u{301}"], vec![both]),
            (["a/b", "A/B"], vec![case, both]),
            (["a/b", "b"], vec![]),
        ];
        for (names, colliding) in cases {
            let paths = names.map(|name| RelPath::parse(name).unwrap());
            for folding in [neither, case, form, both] {
                let found = collision(paths.iter(), folding);
                let expected = colliding.contains(&folding).then_some(&paths[1]);
                assert_eq!(found, expected, "{names:?} {folding:?}");
            }
        }
    }
}
