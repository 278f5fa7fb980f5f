//! The thread that makes complete files appear: large ones one by one, small ones in batches.

use super::engine::{Engine, lock};
use super::queue::Popped;
use super::sink;
use super::work::PublishJob;
use super::{Conflict, FileOutcome, links};
use crate::chunk::Geometry;
use crate::digest::FileDigest;
use crate::manifest::{Attributes, Entry, EntryIndex, EntryKind};
use crate::printable::printable;
use crate::rel_path::RelPath;
use crate::session::Input;
use crate::store::{AttributeLost, Disk, OnConflict, Publication, Published, StoreError};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a batch that is not full waits for its next file.
const BATCH_PATIENCE: Duration = Duration::from_millis(20);

/// Works until the queue closes. What is complete but not yet published then stays for the next run.
pub(super) fn run_publisher<D: Disk>(engine: &Engine<'_, D>) {
    while let Some(job) = engine.publisher.pop() {
        match job {
            PublishJob::Begun => {
                if wait_for_batch(engine).is_none() {
                    return;
                }
            }
            PublishJob::Full => publish_batch(engine),
            PublishJob::FinishFolders => finish_folders(engine),
            PublishJob::Large { entry, root } => publish_large(engine, entry, root),
            PublishJob::MakeLinks { entries } => links::make(engine, entries),
        }
    }
}

/// Has a complete file published: a large one by itself, a small one with others.
pub(super) fn gather<D: Disk>(engine: &Engine<'_, D>, entry: EntryIndex, root: FileDigest) {
    let length = engine.listing().entry(entry).and_then(Entry::file_length);
    match length.filter(|_| engine.listing().geometry(entry).is_some_and(Geometry::is_single)) {
        None => engine.publisher.push(PublishJob::Large { entry, root }),
        Some(length) => {
            let settled = [&engine.counters.files_done, &engine.counters.files_failed];
            let settled: u64 = settled.iter().map(|count| count.load(Ordering::Relaxed)).sum();
            let totals = engine.listing().totals();
            // Links are made after all files.
            let files = totals.files.saturating_sub(engine.listing().links());
            let unsettled = u64::from(files).saturating_sub(settled);
            let told = lock(&engine.gathered).add((entry, root), length, unsettled);
            if let Some(job) = told {
                engine.publisher.push(job);
            }
        }
    }
}

/// Publishes the batch that has begun once it is full or nothing came for a while; large files meanwhile. Returns
/// `None` where the queue is closed.
fn wait_for_batch<D: Disk>(engine: &Engine<'_, D>) -> Option<()> {
    let mut seen = 0;
    loop {
        let now = lock(&engine.gathered).files.len();
        if now == 0 {
            return Some(());
        }
        match engine.publisher.pop_within(BATCH_PATIENCE) {
            Popped::Closed => return None,
            Popped::Item(PublishJob::Large { entry, root }) => publish_large(engine, entry, root),
            Popped::Item(PublishJob::Full) => publish_batch(engine),
            // These come when every file is published, so there is no batch any more.
            Popped::Item(PublishJob::FinishFolders) => finish_folders(engine),
            Popped::Item(PublishJob::MakeLinks { entries }) => links::make(engine, entries),
            Popped::TimedOut if now == seen => publish_batch(engine),
            Popped::Item(PublishJob::Begun) | Popped::TimedOut => {}
        }
        seen = now;
    }
}

fn publish_batch<D: Disk>(engine: &Engine<'_, D>) {
    let gathered = std::mem::take(&mut *lock(&engine.gathered)).files;
    let mut files = Vec::with_capacity(gathered.len());
    let mut stored = Vec::with_capacity(gathered.len());
    for (entry, root) in gathered {
        let Some(listed) = engine.listing().entry(entry) else { continue };
        // Not in the `match`, which would hold the lock while the store waits for room.
        let single = lock(&engine.singles).remove(&entry);
        let file = match single {
            Some((file, proof)) => Ok((file, Some(proof))),
            // Only an empty file comes without a chunk.
            None => engine.store.write_single(publication(engine, listed), &[]).map(|(file, _)| (file, None)),
        };
        match file {
            Ok((file, proof)) => {
                if let Some(sink) = &engine.sink {
                    sink::complete_single(engine, sink, (entry, root), proof.map(|proof| (file, proof)));
                } else {
                    files.push((entry, root));
                    stored.push((file, proof));
                }
            }
            Err(fault) => engine.disk_failed(entry, fault),
        }
    }
    if files.is_empty() {
        return;
    }
    let outcomes = engine.store.publish_batch(stored);
    let done: Vec<_> =
        files.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()).map(|(&file, _)| file).collect();
    note(engine, &done);
    for ((entry, root), outcome) in files.into_iter().zip(outcomes) {
        finish(engine, entry, root, outcome);
    }
}

fn publish_large<D: Disk>(engine: &Engine<'_, D>, entry: EntryIndex, root: FileDigest) {
    if let Some(sink) = &engine.sink {
        return sink::complete(engine, sink, entry, root);
    }
    let Some(listed) = engine.listing().entry(entry) else { return };
    let Some(partial) = lock(&engine.partials).remove(&entry) else { return };
    let sealed = partial.file.seal(root);
    // Nobody else may hold the file when its table is cut off.
    drop(partial);
    let outcome = sealed.and_then(|sealed| engine.store.publish(sealed, &publication(engine, listed)));
    if outcome.is_ok() {
        note(engine, &[(entry, root)]);
    }
    finish(engine, entry, root, outcome);
}

/// Notes what was published, so that a later run need not look at it. Without the note it only works more.
fn note<D: Disk>(engine: &Engine<'_, D>, done: &[(EntryIndex, FileDigest)]) {
    let noted = engine.record.get().map_or(Ok(()), |record| record.note_published(done));
    if let Err(fault) = noted {
        engine.notice(format!("progress cannot be noted for a later run: {fault}"));
    }
}

fn finish<D: Disk>(
    engine: &Engine<'_, D>,
    entry: EntryIndex,
    root: FileDigest,
    outcome: Result<Published, StoreError>,
) {
    match outcome {
        Ok(published) => {
            engine.note_durability(published.durability);
            tell_of_lost_attributes(engine, &published.path, &published.attributes_lost);
            let listed = engine.listing().entry(entry).map(|listed| &listed.path);
            let how = if listed == Some(&published.path) {
                FileOutcome::Published
            } else {
                FileOutcome::Renamed(published.path.as_str().to_owned())
            };
            engine.file_done(entry, root, how);
            engine.step(Input::FilePublished { entry });
        }
        Err(fault) => engine.disk_failed(entry, fault),
    }
}

fn finish_folders<D: Disk>(engine: &Engine<'_, D>) {
    let is_made = |entry: &&Entry| entry.kind == EntryKind::Folder && entry.path.refusal().is_none();
    let folders = engine.listing().entries().iter().filter(is_made);
    if engine.settings.attributes {
        for folder in folders.clone() {
            // What keeps it from being opened is told of its mode and time.
            if let Ok(lost) = engine.store.set_folder_attributes(&folder.path, &folder.attributes) {
                tell_of_lost_attributes(engine, &folder.path, &lost);
            }
        }
    }
    let folders = folders.map(|entry| (entry.path.clone(), entry.mode, entry.modified)).collect();
    let mut failed = Vec::new();
    for (path, outcome) in engine.store.finish_folders(folders) {
        match outcome {
            Ok(durability) => engine.note_durability(durability),
            Err(fault) => failed.push((path, fault)),
        }
    }
    let failed = engine.failed_at_the_end(&failed);
    engine.step(Input::FoldersFinished { failed });
}

pub(super) fn tell_of_lost_attributes<D: Disk>(engine: &Engine<'_, D>, path: &RelPath, lost: &[AttributeLost]) {
    let Some(AttributeLost { name, why }) = lost.first() else { return };
    let others = if lost.len() > 1 { format!(" and {} more", lost.len() - 1) } else { String::new() };
    let (path, name) = (printable(path.as_str()), printable(name));
    engine.notice(format!("`{path}` is without the extended attribute `{name}`{others}: {why}"));
}

/// How an entry is to appear.
pub(super) fn publication<D: Disk>(engine: &Engine<'_, D>, entry: &Entry) -> Publication {
    Publication {
        path: entry.path.clone(),
        mode: entry.mode,
        modified: entry.modified,
        conflict: match engine.conflict() {
            Conflict::Fail | Conflict::Skip => OnConflict::Fail,
            Conflict::Overwrite => OnConflict::Overwrite,
            Conflict::Rename => OnConflict::Rename,
            Conflict::Update => OnConflict::Update,
        },
        read_back: engine.settings.read_back,
        attributes: if engine.settings.attributes { entry.attributes.clone() } else { Attributes::NONE },
    }
}
