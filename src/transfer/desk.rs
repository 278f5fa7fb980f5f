//! The threads that open partial files, check what they claim, and compare files that are there already.

use super::engine::{Engine, OpenPartial, lock};
use super::foresee;
use super::lane_thread::number_of;
use super::work::DeskJob;
use super::{Conflict, FileOutcome};
use crate::chunk::ChunkIndex;
use crate::chunk_set::ChunkSet;
use crate::digest::{ChunkDigest, FileDigest};
use crate::manifest::EntryIndex;
use crate::session::{Input, Verdict};
use crate::store::{Disk, Standing, StoreError};
use rayon::prelude::*;
use std::sync::Arc;

/// Works until the queue closes.
pub(super) fn run_desk<D: Disk>(engine: &Engine<'_, D>) {
    while let Some(job) = engine.desk.pop() {
        match job {
            DeskJob::Open { entry } => open(engine, entry),
            DeskJob::CheckClaims { entry, chunks } => check_claims(engine, entry, &chunks),
            DeskJob::Compare { entry, root } if engine.settings.dry_run => foresee::compare(engine, entry, root),
            DeskJob::Compare { entry, root } => compare(engine, entry, root),
            DeskJob::Weigh { entry, chunks } => foresee::weigh(engine, entry, &chunks),
        }
    }
}

fn open<D: Disk>(engine: &Engine<'_, D>, entry: EntryIndex) {
    let Some(listed) = engine.listing().entry(entry) else { return };
    let Some(length) = listed.file_length() else { return };
    match engine.store.open_partial(&listed.path, length) {
        Ok(opened) => {
            let partial = OpenPartial { file: opened.partial, standing: opened.standing };
            lock(&engine.partials).insert(entry, partial);
            engine.step(Input::FileOpened { entry, claims: opened.claims });
        }
        Err(fault) => engine.disk_failed(entry, fault),
    }
}

fn check_claims<D: Disk>(engine: &Engine<'_, D>, entry: EntryIndex, chunks: &[(ChunkIndex, ChunkDigest)]) {
    let partial = lock(&engine.partials).get(&entry).map(|open| (Arc::clone(&open.file), open.standing));
    // A file that failed meanwhile has none; nobody waits for the answer.
    let Some((file, standing)) = partial else { return };
    let check = |&(index, promised): &(ChunkIndex, ChunkDigest)| file.check_claim(index, promised);
    let outcomes: Result<Vec<bool>, StoreError> = match standing {
        Standing::SameBoot | Standing::Fresh => chunks.iter().map(check).collect(),
        Standing::OtherBoot => chunks.par_iter().map(check).collect(),
    };
    match outcomes {
        Ok(outcomes) => {
            let one = |index: ChunkIndex| {
                let number = number_of(engine, entry, index);
                number..number + 1
            };
            let checked: ChunkSet = chunks.iter().map(|&(index, _)| one(index)).collect();
            let holds = chunks.iter().zip(outcomes).filter(|(_, holds)| *holds);
            let good: ChunkSet = holds.map(|(&(index, _), _)| one(index)).collect();
            let geometry = file.geometry();
            let length = |index| geometry.span(index).map_or(0, |span| span.length.0);
            let in_good = |index: &ChunkIndex| good.contains(number_of(engine, entry, *index));
            let bytes: u64 = chunks.iter().map(|&(index, _)| index).filter(in_good).map(length).sum();
            engine.reuse(bytes);
            engine.chunks_ready(&good);
            drop(file);
            engine.step(Input::ClaimsChecked { entry, checked, good });
        }
        Err(fault) => engine.disk_failed(entry, fault),
    }
}

fn compare<D: Disk>(engine: &Engine<'_, D>, entry: EntryIndex, root: FileDigest) {
    let Some((listed, geometry)) = engine.listing().entry(entry).zip(engine.listing().geometry(entry)) else { return };
    let verdict = match engine.store.hash_existing(&listed.path, geometry) {
        Err(fault) => return engine.disk_failed(entry, fault),
        Ok(Some(found)) if found == root => Verdict::Identical,
        Ok(_) if matches!(engine.conflict(), Conflict::Overwrite | Conflict::Rename) => Verdict::Fetch,
        Ok(_) => Verdict::Keep,
    };
    if verdict == Verdict::Identical {
        engine.store.vouch_for(&listed.path, geometry.file_length());
        engine.reuse(geometry.file_length().0);
        engine.file_done(entry, root, FileOutcome::Identical);
    }
    engine.step(Input::Compared { entry, verdict });
}
