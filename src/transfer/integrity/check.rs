//! Checking a folder against a manifest, and having what is wrong in it fetched.

use super::contents::{Pair, compare, compare_roots};
use super::expect::Expectation;
use super::file::{ManifestFile, Reference, length_of};
use super::finding::{Difference, Finding, Found, Kind, Tally};
use super::rounds::Counted;
use crate::chunk::Length;
use crate::chunk_set::ChunkSet;
use crate::manifest::{Entry, EntryIndex, EntryKind, Mode, SumList, Timestamp};
use crate::printable::printable_path;
use crate::source::{self, CheckedFolder, Notice, NoticeReason, SourceEntry, Standing, Walk, WalkOptions};
use crate::transfer::offer::listed;
use crate::transfer::panics::caught;
use crate::transfer::send::source_failure;
use crate::transfer::{Cancel, Conflict, Event, Observer, Phase, ReceiveSettings, Summary, TransferError, receive};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What to check, and against what.
#[derive(Clone, Debug, Default)]
pub struct VerifySettings {
    /// The manifest, or a list of hashes as `b3sum` prints it; told apart by content.
    pub manifest: PathBuf,
    /// The folder that holds what it lists.
    pub folder: PathBuf,
    /// Whether other permission bits and times are findings as well.
    pub metadata: bool,
}

/// How a check ended.
#[derive(Debug)]
pub struct Verified {
    /// What was checked: files and bytes that are as the manifest says.
    pub summary: Summary,
    /// What is not.
    pub tally: Tally,
    /// Files that the manifest names.
    pub files: u64,
    /// What can be fetched again; nothing where whole files alone are known.
    repairable: Option<Repairable>,
}

#[derive(Debug)]
struct Repairable {
    manifest: ManifestFile,
    /// Entries of files that are as they should be.
    whole: ChunkSet,
    /// Entries of files that are not, or not there, and whose name is theirs to have.
    wanted: ChunkSet,
}

/// A check under way.
struct Check<'a> {
    observer: &'a dyn Observer,
    tally: Tally,
    whole: ChunkSet,
    wanted: ChunkSet,
    bytes: u64,
}

impl Verified {
    /// Files that can be fetched, since they are missing or differ.
    pub fn repairable(&self) -> u64 {
        self.repairable.as_ref().map_or(0, |it| it.wanted.len())
    }

    /// Whether hashes of chunks are known, without which nothing can be fetched.
    pub fn knows_chunks(&self) -> bool {
        self.repairable.is_some()
    }

    /// What the run is to end with.
    ///
    /// # Errors
    /// [`TransferError::Differs`] where anything is not as the manifest says, [`TransferError::Partial`] where all that is
    /// wrong is that something cannot be read.
    pub fn outcome(self) -> Result<Summary, TransferError> {
        if self.tally.is_empty() {
            return Ok(self.summary);
        }
        if self.tally.is_unreadable_alone() {
            return Err(TransferError::Partial { failed: self.tally.unreadable, total: self.files });
        }
        Err(TransferError::Differs { what: self.tally.to_string() })
    }
}

/// Checks a folder against a manifest. Everything that is not as it says is told as an [`Event::Found`].
///
/// # Errors
/// Where the check itself cannot be done; what it finds is no error, see [`Verified::outcome`].
pub fn verify(settings: &VerifySettings, observer: &dyn Observer, cancel: &Cancel) -> Result<Verified, TransferError> {
    caught(|| check(settings, observer, cancel))
}

/// Fetches what a check found to be missing or different, from a sender of the very files that the manifest names, and
/// puts each in place as a whole. What is extra, or something else than a file, stays as it is.
///
/// `settings` say whom to fetch from and where; the rules for what is taken are those of a repair.
///
/// # Errors
/// As of [`receive()`], and [`TransferError::Differs`] where everything was fetched and something else is still not as the
/// manifest says.
pub fn repair(
    verified: Verified,
    settings: ReceiveSettings,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Summary, TransferError> {
    let Some(Repairable { manifest, whole, wanted }) = verified.repairable else {
        return Err(TransferError::Bug("hashes of whole files do not tell what to fetch".into()));
    };
    let expect = Some(Expectation::of_repair(manifest, whole, wanted));
    let summary = receive(&ReceiveSettings { conflict: Conflict::Overwrite, expect, ..settings }, observer, cancel)?;
    let left = Tally { different: 0, missing: 0, unreadable: 0, ..verified.tally };
    if left.is_empty() { Ok(summary) } else { Err(TransferError::Differs { what: left.to_string() }) }
}

fn check(settings: &VerifySettings, observer: &dyn Observer, cancel: &Cancel) -> Result<Verified, TransferError> {
    let began = Instant::now();
    observer.event(&Event::Phase(Phase::Scanning));
    let reference = Reference::open(&settings.manifest)?;
    let folder = CheckedFolder::open(&settings.folder).map_err(|error| TransferError::Io {
        what: format!("the folder `{}` cannot be looked into", printable_path(&settings.folder)),
        cause: error.into(),
    })?;
    let files = reference.files();
    let mut check =
        Check { observer, tally: Tally::default(), whole: ChunkSet::new(), wanted: ChunkSet::new(), bytes: 0 };
    let root = match &reference {
        Reference::Manifest(manifest) => {
            check.tree(manifest, &folder, settings, cancel)?;
            Some(manifest.id().to_string())
        }
        Reference::Sums(sums) => {
            check.files(sums, folder, cancel)?;
            None
        }
    };
    let summary = Summary {
        ok: check.tally.is_empty(),
        files: check.whole.len(),
        bytes: check.bytes,
        seconds: began.elapsed().as_secs_f64(),
        root,
        ..Summary::default()
    };
    let repairable = match reference {
        Reference::Manifest(manifest) => Some(Repairable { manifest, whole: check.whole, wanted: check.wanted }),
        Reference::Sums(_) => None,
    };
    Ok(Verified { summary, tally: check.tally, files, repairable })
}

impl Check<'_> {
    /// Checks everything that a manifest lists, and looks for more in the folders that it lists.
    fn tree(
        &mut self,
        manifest: &ManifestFile,
        folder: &CheckedFolder,
        settings: &VerifySettings,
        cancel: &Cancel,
    ) -> Result<(), TransferError> {
        let listing = manifest.listing();
        let mut tops: Vec<&str> = listing.entries().iter().filter_map(|entry| entry.path.components().next()).collect();
        tops.dedup();
        let symlinks = listing.entries().iter().any(|entry| matches!(entry.kind, EntryKind::Symlink { .. }));
        let options = WalkOptions { stop: Some(cancel.flag()), symlinks, ..WalkOptions::default() };
        let walk = folder.walk(&tops, &options).map_err(source_failure)?;
        let reasons = reasons(&walk, folder.path());
        let itself = settings.manifest.canonicalize().ok();
        let mut pairs = Vec::new();
        let mut here = (0u32..).zip(&walk.entries).peekable();
        for (index, entry) in (0..).map(EntryIndex).zip(listing.entries()) {
            while let Some((place, extra)) = here.next_if(|(_, found)| found.path < entry.path) {
                self.extra(&walk, place, extra, itself.as_deref());
            }
            match here.next_if(|(_, found)| found.path == entry.path) {
                Some((place, found)) => {
                    self.metadata(settings, entry, found);
                    match (&entry.kind, &found.kind) {
                        (EntryKind::Folder, source::EntryKind::Folder) => {}
                        (EntryKind::Symlink { target }, source::EntryKind::Symlink { target: here }) => {
                            self.target(index, entry, target.as_str(), here.as_str());
                        }
                        _ if expected_kind(entry) == Kind::File && kind_of(found) == Kind::File => {
                            // Whether two names share one file is no matter of content.
                            let content = if let EntryKind::HardLink { to } = entry.kind { to } else { index };
                            let here = if let source::EntryKind::HardLink { to } = found.kind { to } else { place };
                            let length = walk.entries.get(here as usize).and_then(file_length).unwrap_or(Length(0));
                            pairs.push(Pair { entry: index, content, here, length });
                        }
                        _ => self.found(entry.path.as_str(), other_kind(entry, kind_of(found))),
                    }
                }
                None => self.absent(folder, index, entry, &reasons),
            }
        }
        for (place, extra) in here {
            self.extra(&walk, place, extra, itself.as_deref());
        }
        self.observer.event(&Event::Phase(Phase::Verifying));
        let bytes = pairs.iter().map(|pair| length_of(listing, pair.content)).sum();
        let counted = Counted::new(pairs.len() as u64, bytes);
        counted.told(self.observer, || {
            compare(manifest, &walk.source, &pairs, &counted, cancel, &mut |pair, finding| match finding {
                None => self.good(pair.entry, pair.length.0),
                Some(Finding { path, what }) => {
                    self.want(pair.entry);
                    self.found(&path, what);
                }
            })
        })
    }

    /// Checks whole files.
    fn files(&mut self, sums: &SumList, folder: CheckedFolder, cancel: &Cancel) -> Result<(), TransferError> {
        let (source, found) = folder.find(sums.sums().map(|(path, _)| path)).map_err(source_failure)?;
        let all: Vec<_> = sums.sums().collect();
        let mut files = Vec::new();
        for (place, (&(path, root), found)) in (0u32..).zip(all.iter().zip(found)) {
            match found {
                Ok(length) => files.push((place, length, root)),
                Err(Standing::Missing) => self.found(path.as_str(), Difference::Missing(Kind::File)),
                Err(Standing::Unreadable(error)) => {
                    self.found(path.as_str(), Difference::Unreadable(error.to_string()));
                }
                Err(other) => {
                    let what = match kind_of_standing(&other) {
                        // It was gone, and is there again.
                        Kind::File => Difference::Unreadable("it changed while it was looked at".into()),
                        found => Difference::OtherKind { found, expected: Kind::File },
                    };
                    self.found(path.as_str(), what);
                }
            }
        }
        self.observer.event(&Event::Phase(Phase::Verifying));
        let counted = Counted::new(files.len() as u64, files.iter().map(|(_, length, _)| length.0).sum());
        counted.told(self.observer, || {
            compare_roots(&source, &files, &counted, cancel, &mut |place, outcome| {
                let path = all[place as usize].0.as_str();
                match outcome {
                    Ok(true) => {
                        let place = files.binary_search_by_key(&place, |(place, ..)| *place).unwrap_or_default();
                        let (entry, length, _) = files[place];
                        self.good(EntryIndex(entry), length.0);
                    }
                    Ok(false) => self.found(path, Difference::Different(Found::default())),
                    Err(why) => self.found(path, Difference::Unreadable(why)),
                }
            })
        })
    }

    fn found(&mut self, path: &str, what: Difference) {
        self.tally.add(&what);
        self.observer.event(&Event::Found(Finding { path: path.to_owned(), what }));
    }

    fn good(&mut self, entry: EntryIndex, bytes: u64) {
        self.whole.insert(u64::from(entry.0)..u64::from(entry.0) + 1);
        self.bytes += bytes;
    }

    fn want(&mut self, entry: EntryIndex) {
        self.wanted.insert(u64::from(entry.0)..u64::from(entry.0) + 1);
    }

    /// A symbolic link that is there.
    fn target(&mut self, index: EntryIndex, entry: &Entry, expected: &str, here: &str) {
        if here == expected {
            return self.good(index, 0);
        }
        self.want(index);
        let (found, expected) = (Some(here.to_owned()), expected.to_owned());
        self.found(entry.path.as_str(), Difference::Target { found, expected });
    }

    /// Something that is there and not listed. A manifest in the folder that it is about does not list itself.
    fn extra(&mut self, walk: &Walk, place: u32, extra: &SourceEntry, itself: Option<&Path>) {
        if itself.is_some_and(|itself| {
            itself.file_name() == Some(extra.path.name().as_ref()) && walk.source.local_path(place) == itself
        }) {
            return;
        }
        self.found(extra.path.as_str(), Difference::Extra(kind_of(extra)));
    }

    /// Something that is listed and that the walk did not take.
    fn absent(&mut self, folder: &CheckedFolder, index: EntryIndex, entry: &Entry, reasons: &HashMap<PathBuf, String>) {
        let path = entry.path.as_str();
        let unreadable = |why: Option<String>| {
            let why = why.unwrap_or_else(|| "it, or a folder that it lies in, cannot be read".into());
            Difference::Unreadable(why)
        };
        let what = match folder.look(&entry.path) {
            // Nothing is ever written under a name that is refused.
            Standing::Missing if entry.refusal().is_some() => Difference::Missing(expected_kind(entry)),
            Standing::Missing => {
                if entry.kind != EntryKind::Folder {
                    self.want(index);
                }
                Difference::Missing(expected_kind(entry))
            }
            Standing::Unreadable(error) => unreadable(Some(error.to_string())),
            Standing::Symlink if expected_kind(entry) == Kind::Symlink => {
                self.want(index);
                let expected = if let EntryKind::Symlink { target } = &entry.kind { target.as_str() } else { "" };
                Difference::Target { found: None, expected: expected.to_owned() }
            }
            other if kind_of_standing(&other) == expected_kind(entry) => {
                if entry.kind != EntryKind::Folder {
                    self.want(index);
                }
                unreadable(reasons.get(Path::new(path)).cloned())
            }
            other => other_kind(entry, kind_of_standing(&other)),
        };
        self.found(path, what);
    }

    fn metadata(&mut self, settings: &VerifySettings, entry: &Entry, found: &SourceEntry) {
        if !settings.metadata {
            return;
        }
        let here = listed(found.clone());
        let mode: Option<(Mode, Mode)> = (here.mode != entry.mode).then_some((here.mode, entry.mode));
        let modified: Option<(Timestamp, Timestamp)> =
            (here.modified != entry.modified).then_some((here.modified, entry.modified));
        if mode.is_some() || modified.is_some() {
            self.found(entry.path.as_str(), Difference::Metadata { mode, modified });
        }
    }
}

fn other_kind(entry: &Entry, found: Kind) -> Difference {
    Difference::OtherKind { found, expected: expected_kind(entry) }
}

fn expected_kind(entry: &Entry) -> Kind {
    match entry.kind {
        EntryKind::File { .. } | EntryKind::HardLink { .. } => Kind::File,
        EntryKind::Folder => Kind::Folder,
        EntryKind::Symlink { .. } => Kind::Symlink,
    }
}

fn kind_of(entry: &SourceEntry) -> Kind {
    match entry.kind {
        source::EntryKind::File { .. } | source::EntryKind::HardLink { .. } => Kind::File,
        source::EntryKind::Folder => Kind::Folder,
        source::EntryKind::Symlink { .. } => Kind::Symlink,
    }
}

fn file_length(entry: &SourceEntry) -> Option<Length> {
    if let source::EntryKind::File { length } = entry.kind { Some(length) } else { None }
}

fn kind_of_standing(standing: &Standing) -> Kind {
    match standing {
        Standing::File => Kind::File,
        Standing::Folder => Kind::Folder,
        Standing::Symlink => Kind::Symlink,
        Standing::Missing | Standing::Special | Standing::Unreadable(_) => Kind::Special,
    }
}

/// Why the walk left something out, as far as it told, by the path below the folder.
fn reasons(walk: &Walk, folder: &Path) -> HashMap<PathBuf, String> {
    let reason = |notice: &Notice| match &notice.reason {
        NoticeReason::Unreadable(error) => Some(error.to_string()),
        NoticeReason::TooLong => Some("it is longer than any file that can be listed".into()),
        NoticeReason::Vanished => Some("it changed while the folder was read".into()),
        _ => None,
    };
    let told = walk.notices.iter().filter_map(|notice| {
        let below = notice.path.strip_prefix(folder).ok()?;
        Some((below.to_owned(), reason(notice)?))
    });
    told.collect()
}
