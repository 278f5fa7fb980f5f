//! The thread that makes complete files appear: large ones one by one, small ones in batches.

use super::engine::{Engine, lock};
use super::queue::Popped;
use super::work::PublishJob;
use super::{Conflict, FileOutcome};
use crate::digest::FileDigest;
use crate::limits::{BATCH_BYTES_MAX, BATCH_FILES_MAX};
use crate::manifest::{Entry, EntryIndex};
use crate::session::Input;
use crate::store::{Disk, OnConflict, Publication, Published, SingleFile, StoreError};
use std::time::Duration;

/// How long a batch that is not full waits for its next file.
const BATCH_PATIENCE: Duration = Duration::from_millis(20);

/// Small files that are stored and wait for their common sync.
struct Batch<D: Disk> {
    files: Vec<(EntryIndex, FileDigest)>,
    stored: Vec<(SingleFile<D>, Option<crate::manifest::VerifiedChunk>, Publication)>,
    bytes: u64,
}

/// Works until the queue closes. What is complete but not yet published then stays for the next run.
pub(super) fn run_publisher<D: Disk>(engine: &Engine<'_, D>) {
    let mut batch = Batch { files: Vec::new(), stored: Vec::new(), bytes: 0 };
    loop {
        let job = if batch.files.is_empty() {
            engine.publisher.pop()
        } else {
            match engine.publisher.pop_within(BATCH_PATIENCE) {
                Popped::Item(job) => Some(job),
                Popped::Closed => None,
                Popped::TimedOut => {
                    publish_batch(engine, &mut batch);
                    continue;
                }
            }
        };
        match job {
            None => return,
            Some(PublishJob::FinishFolders) => {
                publish_batch(engine, &mut batch);
                finish_folders(engine);
            }
            Some(PublishJob::Publish { entry, root }) => {
                let is_single = engine.listing().geometry(entry).is_some_and(crate::chunk::Geometry::is_single);
                if is_single {
                    add_to_batch(engine, entry, root, &mut batch);
                } else {
                    publish_large(engine, entry, root);
                }
                if batch.files.len() >= BATCH_FILES_MAX || batch.bytes >= BATCH_BYTES_MAX {
                    publish_batch(engine, &mut batch);
                }
            }
        }
    }
}

fn add_to_batch<D: Disk>(engine: &Engine<'_, D>, entry: EntryIndex, root: FileDigest, batch: &mut Batch<D>) {
    let Some(listed) = engine.listing().entry(entry) else { return };
    let bytes = listed.file_length().map_or(0, |length| length.0);
    let stored = match lock(&engine.singles).remove(&entry) {
        Some((file, proof)) => Ok((file, Some(proof))),
        // Only an empty file comes without a chunk.
        None => engine.store.write_single(&listed.path, &[]).map(|(file, _)| (file, None)),
    };
    match stored {
        Ok((file, proof)) => {
            batch.files.push((entry, root));
            batch.stored.push((file, proof, publication(engine, listed)));
            batch.bytes += bytes;
        }
        Err(fault) => engine.disk_failed(entry, fault),
    }
}

fn publish_batch<D: Disk>(engine: &Engine<'_, D>, batch: &mut Batch<D>) {
    if batch.files.is_empty() {
        return;
    }
    batch.bytes = 0;
    let outcomes = engine.store.publish_batch(std::mem::take(&mut batch.stored));
    let files = std::mem::take(&mut batch.files);
    let done: Vec<_> =
        files.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()).map(|(&file, _)| file).collect();
    note(engine, &done);
    for ((entry, root), outcome) in files.into_iter().zip(outcomes) {
        finish(engine, entry, root, outcome);
    }
}

fn publish_large<D: Disk>(engine: &Engine<'_, D>, entry: EntryIndex, root: FileDigest) {
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
    let folders = engine.listing().entries().iter().filter(|entry| entry.file_length().is_none());
    let folders = folders.map(|entry| (entry.path.clone(), entry.mode, entry.modified)).collect();
    for (path, outcome) in engine.store.finish_folders(folders) {
        match outcome {
            Ok(durability) => engine.note_durability(durability),
            Err(fault) => engine.folder_failed(&path, &fault),
        }
    }
    engine.step(Input::FoldersFinished);
}

fn publication<D: Disk>(engine: &Engine<'_, D>, entry: &Entry) -> Publication {
    Publication {
        path: entry.path.clone(),
        mode: entry.mode,
        modified: entry.modified,
        conflict: match engine.conflict() {
            Conflict::Fail | Conflict::Skip => OnConflict::Fail,
            Conflict::Overwrite => OnConflict::Overwrite,
            Conflict::Rename => OnConflict::Rename,
        },
        read_back: engine.settings.read_back,
    }
}
