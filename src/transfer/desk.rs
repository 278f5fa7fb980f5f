//! The threads that open partial files, check what they claim, and compare files that are there already.

use super::engine::{Engine, OpenPartial, lock};
use super::foresee;
use super::lane_thread::number_of;
use super::older::{self, Base};
use super::plan::take_for_received;
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

/// Claims that are answered for together: what is known early is told early, and a chunk of an older version takes as long as a
/// copy of it does.
const CLAIMS_AT_ONCE: usize = 64;

/// Works until the queue closes.
pub(super) fn run_desk<D: Disk>(engine: &Engine<'_, D>) {
    while let Some(job) = engine.desk.pop() {
        match job {
            DeskJob::Open { entry } => open(engine, entry),
            DeskJob::CheckClaims { entry, chunks } => check_claims(engine, entry, &chunks),
            DeskJob::Compare { entry, root } if engine.settings.dry_run => foresee::compare(engine, entry, root),
            DeskJob::Compare { entry, root } => compare(engine, entry, root),
            DeskJob::CutOlder { entry } => older::cut(engine, entry),
            DeskJob::Match { entry, outline } => older::find(engine, entry, &outline),
            DeskJob::Weigh { entry, chunks } => foresee::weigh(engine, entry, &chunks),
        }
    }
}

fn open<D: Disk>(engine: &Engine<'_, D>, entry: EntryIndex) {
    let Some((listed, geometry)) = engine.listing().entry(entry).zip(engine.listing().geometry(entry)) else { return };
    match engine.store.open_partial(&listed.path, geometry.file_length()) {
        Ok(opened) => {
            let base = Base::of(engine, entry, listed, geometry).map(Arc::new);
            let mut claims = opened.claims;
            if let Some(base) = &base {
                claims.union(&base.candidates());
            }
            let has_older = base.is_some();
            let partial = OpenPartial { file: opened.partial, standing: opened.standing, base };
            lock(&engine.partials).insert(entry, partial);
            engine.step(Input::FileOpened { entry, claims, has_older });
        }
        Err(fault) => engine.disk_failed(entry, fault),
    }
}

fn check_claims<D: Disk>(engine: &Engine<'_, D>, entry: EntryIndex, chunks: &[(ChunkIndex, ChunkDigest)]) {
    for chunks in chunks.chunks(CLAIMS_AT_ONCE) {
        // A file that failed meanwhile has none; nobody waits for the answer.
        let Some(open) = lock(&engine.partials).get(&entry).cloned() else { return };
        let check = |&(index, promised): &(ChunkIndex, ChunkDigest)| open.has(index, promised);
        let outcomes: Result<Vec<bool>, StoreError> = match open.standing {
            Standing::SameBoot | Standing::Fresh if open.base.is_none() => chunks.iter().map(check).collect(),
            _ => chunks.par_iter().map(check).collect(),
        };
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(fault) => return engine.disk_failed(entry, fault),
        };
        let one = |index: ChunkIndex| {
            let number = number_of(engine, entry, index);
            number..number + 1
        };
        let checked: ChunkSet = chunks.iter().map(|&(index, _)| one(index)).collect();
        let holds = chunks.iter().zip(outcomes).filter(|(_, holds)| *holds);
        let good: ChunkSet = holds.map(|(&(index, _), _)| one(index)).collect();
        let geometry = open.file.geometry();
        let length = |index| geometry.span(index).map_or(0, |span| span.length.0);
        let in_good = |index: &ChunkIndex| good.contains(number_of(engine, entry, *index));
        let bytes: u64 = chunks.iter().map(|&(index, _)| index).filter(in_good).map(length).sum();
        engine.reuse(bytes);
        engine.chunks_ready(&good);
        // Nobody else may hold the file when it is published.
        drop(open);
        engine.step(Input::ClaimsChecked { entry, checked, good });
    }
}

fn compare<D: Disk>(engine: &Engine<'_, D>, entry: EntryIndex, root: FileDigest) {
    let Some((listed, geometry)) = engine.listing().entry(entry).zip(engine.listing().geometry(entry)) else { return };
    let mut digests = Vec::new();
    let found = engine.store.hash_existing_chunks(&listed.path, geometry, |_, digest| digests.push(digest));
    let verdict = match found {
        Err(fault) => return engine.disk_failed(entry, fault),
        Ok(Some(found)) if found == root => Verdict::Identical,
        Ok(_) if engine.conflict().replaces() || engine.conflict() == Conflict::Rename => Verdict::Fetch,
        Ok(_) => Verdict::Keep,
    };
    if verdict == Verdict::Identical {
        if let Err(fault) = take_for_received(engine, listed) {
            return engine.disk_failed(entry, fault);
        }
        engine.reuse(geometry.file_length().0);
        engine.file_done(entry, root, FileOutcome::Identical);
    }
    // Of a file of one chunk nothing is taken over.
    if verdict == Verdict::Fetch && !geometry.is_single() {
        lock(&engine.compared).keep(entry, digests);
    }
    engine.step(Input::Compared { entry, verdict });
}
