//! What becomes of links: which are made, when, and what is said of them.

use super::engine::{Engine, lock};
use super::publisher::publication;
use super::{Conflict, Event, FailureClass, FileOutcome, LinkOutcome, OfferLink};
use crate::digest::FileDigest;
use crate::limits::BATCH_FILES_MAX;
use crate::manifest::{Entry, EntryIndex, EntryKind, LinkTarget, Listing};
use crate::rel_path::RelPath;
use crate::session::{FileFault, Input, Plan};
use crate::store::{Disk, Existing, Link, LinkWish, Linked, LinkedHow, StoreError};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Why a symbolic link is left out that nobody asked for.
pub(super) const UNASKED: &str = "it is a symbolic link, and making them was not asked for with --symlinks";

/// What is known of the files that have further names, and what was said of links.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Path and root of each of those files, once it is there.
    firsts: Mutex<HashMap<EntryIndex, Option<(RelPath, FileDigest)>>>,
    told_of_copies: AtomicBool,
}

impl Links {
    /// Notes which files have further names.
    pub(super) fn expect(&self, listing: &Listing) {
        let firsts = listing.entries().iter().filter_map(|entry| match entry.kind {
            EntryKind::HardLink { to } => Some((to, None)),
            _ => None,
        });
        *lock(&self.firsts) = firsts.collect();
    }

    /// A file is complete. Where it was skipped, what is under its name is something else.
    pub(super) fn file_done(&self, entry: EntryIndex, path: &RelPath, root: FileDigest, how: &FileOutcome) {
        if let Some(first) = lock(&self.firsts).get_mut(&entry) {
            *first = match how {
                FileOutcome::Identical | FileOutcome::Published => Some((path.clone(), root)),
                FileOutcome::Renamed(name) => RelPath::parse(name).ok().map(|path| (path, root)),
                FileOutcome::SkippedExisting => None,
            };
        }
    }

    fn first(&self, entry: EntryIndex) -> Option<(RelPath, FileDigest)> {
        lock(&self.firsts).get(&entry).cloned().flatten()
    }
}

/// Decides about a link before anything is asked for.
pub(super) fn plan<D: Disk>(engine: &Engine<'_, D>, entry: &Entry, existing: Existing) -> Plan {
    let is_unasked = matches!(entry.kind, EntryKind::Symlink { .. }) && !engine.settings.symlinks;
    if is_unasked {
        return engine.fail_plan(entry, UNASKED.into(), FailureClass::Partial);
    }
    match (existing, engine.conflict()) {
        (Existing::Nothing, _) | (_, Conflict::Overwrite | Conflict::Rename | Conflict::Update) => Plan::Link,
        (_, Conflict::Skip) => {
            link_done(engine, entry, LinkOutcome::SkippedExisting);
            Plan::Skip
        }
        (_, Conflict::Fail) if may_be_same(engine, entry, existing) => Plan::Link,
        (_, Conflict::Fail) => {
            let fault = StoreError::Exists { path: entry.path.as_str().into() };
            engine.fail_plan(entry, fault.to_string(), FailureClass::Exists)
        }
    }
}

/// Whether what is under a link's name may turn out to be the same.
pub(super) fn may_be_same<D: Disk>(engine: &Engine<'_, D>, entry: &Entry, existing: Existing) -> bool {
    match &entry.kind {
        EntryKind::HardLink { to } => {
            let length = engine.listing().entry(*to).and_then(Entry::file_length);
            length.is_some_and(|length| existing == Existing::File { length })
        }
        EntryKind::Symlink { target } => {
            let found = engine.store.read_symlink(&entry.path);
            existing == Existing::Other && found.is_ok_and(|found| found.as_deref() == Some(target.as_str()))
        }
        _ => false,
    }
}

/// Makes links, hard ones first: they are names of files, and nothing is made after a symbolic one but symbolic ones.
pub(super) fn make<D: Disk>(engine: &Engine<'_, D>, entries: Vec<EntryIndex>) {
    let is_hard = |entry: &EntryIndex| {
        engine.listing().entry(*entry).is_some_and(|entry| matches!(entry.kind, EntryKind::HardLink { .. }))
    };
    let (hard, symbolic): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_hard);
    for batch in hard.chunks(BATCH_FILES_MAX).chain(symbolic.chunks(BATCH_FILES_MAX)) {
        let mut asked = Vec::with_capacity(batch.len());
        let mut wishes = Vec::with_capacity(batch.len());
        for &entry in batch {
            match wish(engine, entry) {
                Some(wish) => {
                    asked.push(entry);
                    wishes.push(wish);
                }
                None => engine.step(Input::FileFailed { entry, fault: FileFault::FirstFailed }),
            }
        }
        for (entry, outcome) in asked.into_iter().zip(engine.store.publish_links(&wishes)) {
            finish(engine, entry, outcome);
        }
    }
}

fn wish<D: Disk>(engine: &Engine<'_, D>, entry: EntryIndex) -> Option<LinkWish> {
    let listed = engine.listing().entry(entry)?;
    match &listed.kind {
        EntryKind::Symlink { target } => {
            Some(LinkWish { publication: publication(engine, listed), link: Link::Symbolic(target.clone()) })
        }
        EntryKind::HardLink { to } => {
            let (first, root) = engine.links.first(*to)?;
            // Where it has to be a copy, that has what belongs to the file.
            let of_file = publication(engine, engine.listing().entry(*to)?);
            let publication = crate::store::Publication { path: listed.path.clone(), ..of_file };
            Some(LinkWish { publication, link: Link::Hard { first, root, geometry: engine.listing().geometry(*to)? } })
        }
        EntryKind::File { .. } | EntryKind::Folder => None,
    }
}

fn finish<D: Disk>(engine: &Engine<'_, D>, entry: EntryIndex, outcome: Result<Linked, StoreError>) {
    let Some(listed) = engine.listing().entry(entry) else { return };
    match outcome {
        Ok(linked) => {
            engine.note_durability(linked.durability);
            if linked.how == LinkedHow::Copied && !engine.links.told_of_copies.swap(true, Ordering::Relaxed) {
                engine.notice(format!(
                    "the file system here cannot give `{}` a second name: it is a copy, and so is every other one",
                    crate::printable::printable(listed.path.as_str())
                ));
            }
            let how = match linked.how {
                _ if linked.path != listed.path => LinkOutcome::Renamed(linked.path.as_str().to_owned()),
                LinkedHow::Copied => LinkOutcome::Copied,
                LinkedHow::Identical => LinkOutcome::Identical,
                LinkedHow::Made => LinkOutcome::Made,
            };
            link_done(engine, listed, how);
            engine.step(Input::FilePublished { entry });
        }
        Err(fault) => engine.disk_failed(entry, fault),
    }
}

/// Counts a link as done and says so.
fn link_done<D: Disk>(engine: &Engine<'_, D>, entry: &Entry, how: LinkOutcome) {
    engine.counters.files_done.fetch_add(1, Ordering::Relaxed);
    let to = leads_to(engine.listing(), entry).unwrap_or_default();
    engine.observer.event(&Event::LinkDone { path: entry.path.as_str().to_owned(), to, how });
}

/// What a link leads to, raw: the path of the file that it is another name of, or the text of a symbolic one.
pub(super) fn leads_to(listing: &Listing, entry: &Entry) -> Option<String> {
    match &entry.kind {
        EntryKind::HardLink { to } => listing.entry(*to).map(|first| first.path.as_str().to_owned()),
        EntryKind::Symlink { target } => Some(LinkTarget::as_str(target).to_owned()),
        EntryKind::File { .. } | EntryKind::Folder => None,
    }
}

/// The same, as it is offered.
pub(super) fn offered(listing: &Listing, entry: &Entry) -> Option<OfferLink> {
    let is_symbolic = matches!(entry.kind, EntryKind::Symlink { .. });
    leads_to(listing, entry).map(if is_symbolic { OfferLink::Symbolic } else { OfferLink::Hard })
}
