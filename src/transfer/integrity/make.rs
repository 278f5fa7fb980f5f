//! Writing a manifest: what is here is walked as for an offer, hashed, and listed with its hashes.

use super::output::{WholeFile, folder_of, nameless_file};
use super::rounds::{Counted, Rounds};
use super::sums::Roots;
use crate::chunk::{ChunkIndex, Geometry, Length};
use crate::digest::{ChunkDigest, DIGEST_BYTES, FileDigest, ManifestId, empty_file_digest};
use crate::limits::HASH_PAGE_CHUNKS_MAX;
use crate::manifest::{self, Entry, EntryIndex, Listing, ListingBuilder, b3sum_line};
use crate::printable::printable_path;
use crate::source::{ChunkRun, EntryKind, Filter, HashedChunk, Source, SourceEntry, SourceError, Walk, WalkOptions};
use crate::transfer::offer::listed;
use crate::transfer::panics::caught;
use crate::transfer::send::{source_failure, tell_notices};
use crate::transfer::{Cancel, Event, FailureClass, Observer, Phase, Summary, TransferError};
use crate::wire::ManifestWriter;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// What to write a manifest of, and where.
#[derive(Clone, Debug, Default)]
pub struct ManifestSettings {
    /// Files and folders, as the user wrote them; at least one.
    pub paths: Vec<PathBuf>,
    /// The file to write. `None`: what [`manifest()`] is given.
    pub out: Option<PathBuf>,
    /// Whether to replace a file of that name.
    pub overwrite: bool,
    /// Which of what they hold to list.
    pub filter: Filter,
    /// Whether to list symbolic links, as an offer does that has them.
    pub symlinks: bool,
    /// Whether to write lines as `b3sum` prints them, of files alone.
    pub b3sum: bool,
    /// Where hashes of unchanged files are remembered. `None`: nowhere.
    pub cache_dir: Option<PathBuf>,
}

/// Files on their way into a manifest.
struct Making<'a> {
    walk: &'a Walk,
    observer: &'a dyn Observer,
    /// Entries that are not to be listed: those that failed, and the manifest itself.
    left_out: BTreeSet<u32>,
    failed: u64,
    /// Hashes of all chunks of all entries, zeros of those that failed.
    rows: BufWriter<File>,
    roots: Roots,
    /// The root of the file that was hashed last.
    last_root: Option<FileDigest>,
}

/// Writes a manifest of files and folders to the file that the settings name, or to `stream` where they name none.
///
/// What a transfer of the same paths would show is what it holds: the same entries, root for root, and the same id.
///
/// # Errors
/// [`TransferError::Partial`] where something could not be read: it is left out, the manifest of everything else is there.
pub fn manifest(
    settings: &ManifestSettings,
    stream: &mut dyn Write,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Summary, TransferError> {
    caught(|| make(settings, stream, observer, cancel))
}

fn make(
    settings: &ManifestSettings,
    stream: &mut dyn Write,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Summary, TransferError> {
    let began = Instant::now();
    observer.event(&Event::Phase(Phase::Scanning));
    let options = WalkOptions {
        filter: settings.filter.clone(),
        hash_cache: settings.cache_dir.clone(),
        stop: Some(cancel.flag()),
        symlinks: settings.symlinks,
        ..WalkOptions::default()
    };
    let walk = Source::walk(&settings.paths, &options).map_err(source_failure)?;
    let left_out = tell_notices(&walk, observer);
    let spool = settings.out.as_deref().map_or_else(std::env::temp_dir, folder_of);
    let spool = nameless_file(&spool).map_err(|error| unwritable(&spool, error))?;
    let mut making = Making {
        walk: &walk,
        observer,
        left_out: itself(settings.out.as_deref(), &walk),
        failed: 0,
        rows: BufWriter::new(spool),
        roots: Roots::default(),
        last_root: None,
    };
    if !making.left_out.is_empty() {
        observer.event(&Event::Notice { text: "the manifest that is to be replaced is left out".into() });
    }
    observer.event(&Event::Phase(Phase::Hashing));
    making.hash(cancel)?;
    observer.event(&Event::Phase(Phase::Finalising));
    let (listing, rows) = making.listing()?;
    let id = match &settings.out {
        None => {
            making.write(&listing, &rows, settings.b3sum, stream).map_err(|error| unwritable(Path::new("-"), error))
        }
        Some(path) => {
            let mut write = || -> io::Result<ManifestId> {
                let mut file = WholeFile::beside(path)?;
                let id = making.write(&listing, &rows, settings.b3sum, &mut file)?;
                file.place(path, settings.overwrite)?;
                Ok(id)
            };
            write().map_err(|error| unwritable(path, error))
        }
    }?;
    let failed = making.failed + left_out;
    let totals = listing.totals();
    let root = if totals.files == 1 { making.last_root.map(|root| root.to_string()) } else { None };
    let summary = Summary {
        ok: failed == 0,
        files: u64::from(totals.files),
        bytes: totals.bytes,
        seconds: began.elapsed().as_secs_f64(),
        root: root.or_else(|| Some(id.to_string())),
        ..Summary::default()
    };
    let total = u64::from(totals.files) + failed;
    if failed == 0 { Ok(summary) } else { Err(TransferError::Partial { failed, total }) }
}

impl Making<'_> {
    fn hash(&mut self, cancel: &Cancel) -> Result<(), TransferError> {
        let walk = self.walk;
        let files = || (0u32..).zip(&walk.entries).filter_map(|(entry, it)| Some((entry, length(it)?)));
        let counted = Counted::new(files().count() as u64, walk.total.0);
        counted.told(self.observer, || {
            for round in Rounds::new(files()) {
                if cancel.is_cancelled() {
                    return Err(TransferError::Interrupted);
                }
                if let Some(run) = round.first() {
                    counted.on(walk.entries[run.entry as usize].path.as_str());
                }
                for (run, outcome) in round.iter().zip(walk.source.hash_runs(&round)) {
                    self.take(run, outcome).map_err(|error| unwritable(Path::new("-"), error))?;
                    let length = length(&walk.entries[run.entry as usize]).unwrap_or(Length(0));
                    let geometry = Geometry::of(length);
                    counted.bytes(geometry.map_or(0, |it| it.bytes_between(run.chunks.start, run.chunks.end).0));
                    if geometry.is_some_and(|geometry| geometry.count().0 == run.chunks.end.0) {
                        counted.file();
                    }
                }
            }
            Ok(())
        })
    }

    /// Takes the hashes of one file's next chunks, or gives the file up.
    fn take(&mut self, run: &ChunkRun, outcome: Result<Vec<HashedChunk>, SourceError>) -> io::Result<()> {
        match outcome {
            Ok(hashed) => hashed.iter().try_for_each(|chunk| self.rows.write_all(&chunk.digest.0)),
            Err(fault) => {
                self.fail(run.entry, fault.to_string());
                let count = run.chunks.end.0.saturating_sub(run.chunks.start.0);
                (0..count).try_for_each(|_| self.rows.write_all(&[0; DIGEST_BYTES]))
            }
        }
    }

    fn fail(&mut self, entry: u32, fault: String) {
        if self.left_out.insert(entry) {
            self.failed += 1;
            let path = self.walk.entries[entry as usize].path.as_str().to_owned();
            self.observer.event(&Event::FileFailed { path, fault, class: FailureClass::Io });
        }
    }

    /// The listing of everything that was read, and where the hashes of each of its files lie: chunk numbers among all
    /// entries.
    fn listing(&mut self) -> Result<(Arc<Listing>, Vec<u64>), TransferError> {
        let bug = |fault| TransferError::Bug(Box::new(fault));
        let mut builder = ListingBuilder::new();
        let (mut next, mut rows) = (0, Vec::new());
        // What an entry is called once those before it are left out that could not be read.
        let mut left_out = 0;
        let mut places = HashMap::new();
        let walk = self.walk;
        let linked = linked(walk);
        for (entry, it) in (0u32..).zip(&walk.entries) {
            let geometry = length(it).and_then(Geometry::of);
            let mut listed = listed(it.clone());
            if let manifest::EntryKind::HardLink { to } = &mut listed.kind {
                match places.get(&to.0) {
                    Some(&place) => *to = EntryIndex(place),
                    None => self.fail(entry, "the file that it is another name of is left out".into()),
                }
            }
            if self.left_out.contains(&entry) {
                left_out += 1;
            } else {
                if linked.contains(&entry) {
                    places.insert(entry, entry - left_out);
                }
                builder.push(listed).map_err(bug)?;
                rows.push(next);
            }
            next += geometry.map_or(0, |geometry| u64::from(geometry.count().0));
        }
        if builder.is_empty() {
            return Err(TransferError::Io {
                what: "nothing could be read, so there is no manifest".into(),
                cause: "each file failed, as told above".into(),
            });
        }
        let totals = builder.totals();
        Ok((Arc::new(builder.finish(totals).map_err(bug)?), rows))
    }

    /// Writes the manifest, or the lines, and returns the manifest's id.
    fn write(
        &mut self,
        listing: &Arc<Listing>,
        rows: &[u64],
        b3sum: bool,
        out: &mut dyn Write,
    ) -> io::Result<ManifestId> {
        self.rows.flush()?;
        let mut spool = self.rows.get_ref().try_clone()?;
        let mut out = BufWriter::new(out);
        let id = if b3sum {
            let mut writer = ManifestWriter::new(io::sink(), Arc::clone(listing))?;
            self.copy(listing, rows, &mut spool, &mut writer, Some(&mut out))?;
            writer.finish()?.1
        } else {
            let mut writer = ManifestWriter::new(&mut out, Arc::clone(listing))?;
            self.copy(listing, rows, &mut spool, &mut writer, None)?;
            writer.finish()?.1
        };
        out.flush()?;
        Ok(id)
    }

    /// Hands the hashes of every listed file on, and writes a line for each where `lines` wants them.
    fn copy<W: Write>(
        &mut self,
        listing: &Listing,
        rows: &[u64],
        spool: &mut File,
        writer: &mut ManifestWriter<W>,
        mut lines: Option<&mut dyn Write>,
    ) -> io::Result<()> {
        let to = |it: &Entry| if let manifest::EntryKind::HardLink { to } = it.kind { Some(to) } else { None };
        let linked = listing.entries().iter().filter_map(to).map(|to| (to, empty_file_digest()));
        let mut linked: HashMap<EntryIndex, FileDigest> = linked.collect();
        let mut at = 0;
        spool.seek(SeekFrom::Start(0))?;
        let mut spool = BufReader::with_capacity(64 * 1024, spool);
        for (index, &first) in (0..).map(EntryIndex).zip(rows) {
            let Some(entry) = listing.entry(index) else { continue };
            if let (manifest::EntryKind::HardLink { to }, Some(lines)) = (&entry.kind, &mut lines)
                && let Some(root) = linked.get(to)
            {
                writeln!(lines, "{}", b3sum_line(entry.path.as_str(), *root))?;
            }
            let Some(length) = entry.file_length() else { continue };
            let chunks = listing.chunks_of(index);
            if at != first && !chunks.is_empty() {
                spool.seek(SeekFrom::Start(first * DIGEST_BYTES as u64))?;
                at = first;
            }
            let mut root = empty_file_digest();
            let count = chunks.end - chunks.start;
            for page in (0..count).step_by(usize::from(HASH_PAGE_CHUNKS_MAX)) {
                let many = (count - page).min(u64::from(HASH_PAGE_CHUNKS_MAX));
                let mut digests = Vec::with_capacity(usize::from(HASH_PAGE_CHUNKS_MAX));
                for _ in 0..many {
                    let mut row = [0; DIGEST_BYTES];
                    spool.read_exact(&mut row)?;
                    digests.push(ChunkDigest(row));
                }
                writer.digests(&digests)?;
                let first = ChunkIndex(u32::try_from(page).unwrap_or(u32::MAX));
                root = self.roots.push((index.0, length), first, digests.into_iter()).unwrap_or(root);
                at += many;
            }
            self.last_root = Some(root);
            if linked.contains_key(&index) {
                linked.insert(index, root);
            }
            if let Some(lines) = &mut lines {
                writeln!(lines, "{}", b3sum_line(entry.path.as_str(), root))?;
            }
        }
        Ok(())
    }
}

/// Entries that others are further names of.
fn linked(walk: &Walk) -> BTreeSet<u32> {
    let to = |it: &SourceEntry| if let EntryKind::HardLink { to } = it.kind { Some(to) } else { None };
    walk.entries.iter().filter_map(to).collect()
}

fn length(entry: &SourceEntry) -> Option<Length> {
    if let EntryKind::File { length } = entry.kind { Some(length) } else { None }
}

/// The entry that is the file to be written, where it is one of an earlier run.
fn itself(out: Option<&Path>, walk: &Walk) -> BTreeSet<u32> {
    let Some(out) = out.and_then(|out| out.canonicalize().ok()) else { return BTreeSet::new() };
    let name = out.file_name();
    let is_it = |entry: &u32| walk.source.local_path(*entry) == out;
    let named = (0u32..).zip(&walk.entries).filter(|(_, it)| Some(it.path.name().as_ref()) == name);
    named.map(|(entry, _)| entry).filter(is_it).collect()
}

fn unwritable(path: &Path, error: io::Error) -> TransferError {
    let what = match path.to_str() {
        Some("-") => "the manifest cannot be written".to_owned(),
        _ => format!("the manifest cannot be written to `{}`", printable_path(path)),
    };
    TransferError::Io { what, cause: error.into() }
}
