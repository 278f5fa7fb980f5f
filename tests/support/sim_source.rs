//! A seeded source tree that can change, and what a sending process lists and reads of it.

use super::sim_rng::Rng;
use haul::chunk::{ChunkIndex, Geometry, Length};
use haul::digest::{ChunkDigest, FileDigest, RootMerger, chunk_digest, empty_file_digest};
use haul::limits::CHUNK_BYTES_MIN;
use haul::manifest::{Attributes, Entry, EntryIndex, EntryKind, LinkTarget, Listing, ListingBuilder, Mode, Timestamp};
use haul::rel_path::RelPath;
use haul::wire::Change;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

/// Time of last change of a file whose version is 0.
const FIRST_SECOND: i64 = 1_700_000_000;

/// What lies on the sending machine's disk.
#[derive(Debug)]
pub(crate) struct Source {
    items: Vec<Item>,
    digests: BTreeMap<(usize, u32, u32), ChunkDigest>,
}

#[derive(Debug)]
struct Item {
    path: RelPath,
    /// Content of each version so far; none for a folder.
    versions: Vec<Rc<Vec<u8>>>,
    fault: Option<Change>,
    /// Readers of chunks do not notice that the content changed.
    is_sly: bool,
    link: Option<SourceLink>,
}

/// A link of the tree.
#[derive(Clone, Debug)]
enum SourceLink {
    /// Another name of the file at this path.
    Hard(RelPath),
    Symbolic(LinkTarget),
}

/// What a sending process listed.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) listing: Arc<Listing>,
    pub(crate) page_starts: Arc<[u32]>,
    /// Place in the source and version of each entry.
    items: Vec<(usize, u32)>,
    /// Hashes given so far.
    given: BTreeMap<u64, ChunkDigest>,
}

impl Source {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let mut paths = BTreeMap::new();
        let mut room = 3 << 20;
        let (big, small, longest) = *rng.pick(&[(4, 2, 9_000), (3, 12, 40_000), (1, 30, 4_000), (0, 180, 200)]);
        for number in 0..rng.between(0, 3) {
            paths.insert(format!("d{number}"), None);
            if rng.chance(500) {
                paths.insert(format!("d{number}/e"), None);
            }
        }
        let folders: Vec<String> = paths.keys().cloned().collect();
        for number in 0..rng.between(1, big + small) {
            let is_big = number < rng.between(0, big);
            let length = if is_big {
                rng.between(0, 5) * CHUNK_BYTES_MIN + *rng.pick(&[0, 0, 1, CHUNK_BYTES_MIN - 1, 70_000])
            } else if rng.chance(100) {
                0
            } else {
                rng.between(1, longest)
            };
            let name = format!("f{}", rng.below(1000));
            let path =
                if folders.is_empty() || rng.chance(300) { name } else { format!("{}/{name}", rng.pick(&folders)) };
            if length <= room && !paths.contains_key(&path) {
                room -= length;
                let mut bytes = vec![0; length as usize];
                if !rng.chance(100) {
                    rng.fill(&mut bytes);
                    if rng.has_text && number % 3 < 2 {
                        for byte in &mut bytes {
                            *byte = b'a' + (*byte & 15);
                        }
                    }
                    if bytes.len() > 200_000 && rng.chance(300) {
                        bytes[50_000..150_000].fill(0);
                    }
                }
                paths.insert(path, Some(bytes));
            }
        }
        let mut items: Vec<_> = paths
            .into_iter()
            .map(|(path, bytes)| Item {
                path: RelPath::parse(&path).unwrap(),
                versions: bytes.into_iter().map(Rc::new).collect(),
                fault: None,
                is_sly: false,
                link: None,
            })
            .collect();
        items.sort_by(|one, other| one.path.cmp(&other.path));
        add_links(&mut items, &folders);
        Self { items, digests: BTreeMap::new() }
    }

    /// Folders (`None`) and files.
    #[allow(dead_code, reason = "for the fault matrix alone")]
    pub(crate) fn of(items: Vec<(&str, Option<Vec<u8>>)>) -> Self {
        let mut items: Vec<_> = items
            .into_iter()
            .map(|(path, bytes)| Item {
                path: RelPath::parse(path).unwrap(),
                versions: bytes.into_iter().map(Rc::new).collect(),
                fault: None,
                is_sly: false,
                link: None,
            })
            .collect();
        items.sort_by(|one, other| one.path.cmp(&other.path));
        Self { items, digests: BTreeMap::new() }
    }

    /// A file gets other content.
    #[allow(dead_code, reason = "for the fault matrix alone")]
    pub(crate) fn rewrite(&mut self, path: &str, bytes: Vec<u8>) {
        self.item(path).versions.push(Rc::new(bytes));
    }

    /// A file is gone, or cannot be read.
    #[allow(dead_code, reason = "for the fault matrix alone")]
    pub(crate) fn lose(&mut self, path: &str, how: Change) {
        self.item(path).fault = Some(how);
    }

    #[allow(dead_code, reason = "for the fault matrix alone")]
    fn item(&mut self, path: &str) -> &mut Item {
        self.items.iter_mut().find(|item| item.path.as_str() == path).unwrap()
    }

    /// Content that some file of the tree has, or had.
    pub(crate) fn was_ever(&self, path: &RelPath, bytes: &[u8]) -> bool {
        let item = self.items.iter().find(|item| item.path == *path);
        let item = item.and_then(|item| match &item.link {
            Some(SourceLink::Hard(first)) => self.items.iter().find(|item| item.path == *first),
            _ => Some(item),
        });
        item.is_some_and(|item| item.versions.iter().any(|version| ***version == *bytes))
    }

    /// Every file that can be read, with its content.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&RelPath, &Rc<Vec<u8>>)> {
        let readable = self.items.iter().filter(|item| item.fault.is_none());
        readable.filter_map(|item| Some((&item.path, item.versions.last()?)))
    }

    /// Partial files that may be left at the end: those of lengths that a file had before it changed, or was gone.
    pub(crate) fn orphans(&self) -> usize {
        let lengths = |item: &Item| -> BTreeSet<usize> {
            let all = item.versions.iter().map(|bytes| bytes.len());
            let last = all.clone().next_back().filter(|_| item.fault.is_none());
            all.filter(|&length| length as u64 > CHUNK_BYTES_MIN && Some(length) != last).collect()
        };
        self.items.iter().map(|item| lengths(item).len()).sum()
    }

    /// Something happens to one file.
    pub(crate) fn change(&mut self, rng: &mut Rng) {
        let place = rng.below(self.items.len() as u64) as usize;
        // With a file go its further names.
        let is_left = |item: &&Item| item.link.is_none() && item.fault.is_none();
        let is_last_one = self.items.iter().filter(is_left).count() == 1;
        let item = &mut self.items[place];
        let Some(last) = item.versions.last() else { return };
        if rng.chance(300) && !is_last_one {
            item.fault = Some(*rng.pick(&[Change::Gone, Change::Unreadable]));
            return;
        }
        let mut bytes = last.to_vec();
        match rng.below(3) {
            0 if !bytes.is_empty() => {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] ^= 0x55;
            }
            1 => bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize),
            _ => bytes.extend_from_slice(&rng.next().to_le_bytes()),
        }
        item.versions.push(Rc::new(bytes));
        item.is_sly = rng.chance(500);
    }

    /// What cannot be read can be again; what is gone stays so.
    pub(crate) fn heal(&mut self) {
        for item in &mut self.items {
            item.fault = item.fault.filter(|&fault| fault == Change::Gone);
        }
    }

    fn readable(&self) -> usize {
        self.items.iter().filter(|item| self.is_listed(item)).count()
    }

    /// Whether a walk finds it. Of a file that is gone, or cannot be read, every name is.
    fn is_listed(&self, item: &Item) -> bool {
        let is_faultless = |path: &RelPath| self.items.iter().any(|item| item.path == *path && item.fault.is_none());
        match &item.link {
            Some(SourceLink::Hard(first)) => is_faultless(first),
            _ => item.fault.is_none(),
        }
    }

    /// Walks the tree.
    pub(crate) fn offer(&self, rng: &mut Rng) -> Offer {
        let mut builder = ListingBuilder::new();
        let mut items = Vec::new();
        let mut indices = BTreeMap::new();
        for (place, item) in self.items.iter().enumerate().filter(|(_, item)| self.is_listed(item)) {
            indices.insert(&item.path, EntryIndex(builder.len()));
            let kind = match (&item.link, item.versions.last()) {
                (Some(SourceLink::Hard(first)), _) => EntryKind::HardLink { to: indices[first] },
                (Some(SourceLink::Symbolic(target)), _) => EntryKind::Symlink { target: target.clone() },
                (None, Some(bytes)) => EntryKind::File { length: Length(bytes.len() as u64) },
                (None, None) => EntryKind::Folder,
            };
            let version = item.versions.len() as u32;
            let modified = Timestamp::clamped(FIRST_SECOND + i64::from(version), 5);
            let (path, mode) = (item.path.clone(), Mode::masked(0o644));
            builder.push(Entry { path, kind, mode, modified, attributes: Attributes::NONE }).unwrap();
            items.push((place, version));
        }
        let totals = builder.totals();
        let listing = Arc::new(builder.finish(totals).unwrap());
        let page = rng.scale(1, 256) as usize;
        let page_starts = (0..items.len() as u32).step_by(page).collect();
        Offer { listing, page_starts, items, given: BTreeMap::new() }
    }

    /// The hash of a chunk of the version that was listed with this time.
    pub(crate) fn listed_digest(&mut self, path: &RelPath, modified: Timestamp, index: ChunkIndex) -> ChunkDigest {
        let item = self.items.iter().position(|item| item.path == *path).unwrap();
        self.digest(item, version_of(modified), index)
    }

    /// The bytes of the version that was listed with this time.
    pub(crate) fn listed_bytes(&self, path: &RelPath, modified: Timestamp) -> &[u8] {
        let item = self.items.iter().find(|item| item.path == *path).unwrap();
        &item.versions[version_of(modified) as usize - 1]
    }

    fn digest(&mut self, item: usize, version: u32, index: ChunkIndex) -> ChunkDigest {
        let bytes = &self.items[item].versions[version as usize - 1];
        *self.digests.entry((item, version, index.0)).or_insert_with(|| {
            let geometry = Geometry::of(Length(bytes.len() as u64)).unwrap();
            let span = geometry.span(index).unwrap();
            chunk_digest(geometry, index, &bytes[span.offset.0 as usize..][..span.length.0 as usize])
        })
    }
}

impl Offer {
    /// Whether the source is no longer what was listed.
    pub(crate) fn is_stale(&self, source: &Source) -> bool {
        let changed = |&(item, version): &(usize, u32)| change(&source.items[item], version).is_some();
        self.items.len() != source.readable() || self.items.iter().any(changed)
    }

    /// The file's bytes as a reader finds them that checks what it can before.
    pub(crate) fn read(&self, source: &Source, entry: EntryIndex) -> Result<Rc<Vec<u8>>, Change> {
        let (item, version) = self.items[entry.as_usize()];
        let item = &source.items[item];
        let listed = &item.versions[version as usize - 1];
        let last = item.versions.last().unwrap();
        match change(item, version) {
            None => Ok(last.clone()),
            Some(Change::Content) if item.is_sly && last.len() == listed.len() => Ok(last.clone()),
            Some(change) => Err(change),
        }
    }

    /// What chunk `number` hashed to when its hash was asked for, or hashes to.
    pub(crate) fn hash(&mut self, source: &mut Source, number: u64) -> Result<ChunkDigest, (EntryIndex, Change)> {
        let place = self.listing.place(number).unwrap();
        let (item, version) = self.items[place.entry.as_usize()];
        if let Some(change) = change(&source.items[item], version) {
            return Err((place.entry, change));
        }
        let digest = source.digest(item, version, place.index);
        self.given.insert(number, digest);
        Ok(digest)
    }

    /// The hash of chunk `number` as it was listed, whatever happened since.
    pub(crate) fn listed_digest(&self, source: &mut Source, number: u64) -> ChunkDigest {
        let place = self.listing.place(number).unwrap();
        let (item, version) = self.items[place.entry.as_usize()];
        source.digest(item, version, place.index)
    }

    /// The root of a file that is still as listed, or whose every hash was given.
    pub(crate) fn root(&mut self, source: &mut Source, entry: EntryIndex) -> Result<FileDigest, (EntryIndex, Change)> {
        let mut merger = RootMerger::new(self.listing.geometry(entry).unwrap());
        let mut root = empty_file_digest();
        for number in self.listing.chunks_of(entry) {
            let digest = match self.given.get(&number) {
                Some(&digest) => digest,
                None => self.hash(source, number)?,
            };
            root = merger.push(digest).unwrap_or(root);
        }
        Ok(root)
    }
}

/// Further names of some files, and symbolic links in folders. The choices are made from the tree, so that those of a seed
/// are the same with them and without.
fn add_links(items: &mut Vec<Item>, folders: &[String]) {
    let mut rng = Rng::new(items.iter().map(|item| item.path.as_str().len() as u64 + item.versions.len() as u64).sum());
    let links = |path: String, link| Item {
        path: RelPath::parse(&path).unwrap(),
        versions: Vec::new(),
        fault: None,
        is_sly: false,
        link: Some(link),
    };
    let firsts: Vec<RelPath> =
        items.iter().filter(|item| !item.versions.is_empty()).map(|item| item.path.clone()).collect();
    let hard_links = if firsts.is_empty() { 0 } else { rng.below(4) };
    for number in 0..hard_links {
        // After its first, wherever that is.
        items.push(links(format!("z{number}"), SourceLink::Hard(rng.pick(&firsts).clone())));
    }
    for (number, folder) in folders.iter().enumerate() {
        let target = LinkTarget::parse(["none", ".", "f1", "e/x"][rng.below(4) as usize]).unwrap();
        items.push(links(format!("{folder}/s{number}"), SourceLink::Symbolic(target)));
    }
    items.sort_by(|one, other| one.path.cmp(&other.path));
}

/// What happened to a file since it was listed.
fn change(item: &Item, listed: u32) -> Option<Change> {
    item.fault.or((item.versions.len() as u32 != listed).then_some(Change::Content))
}

fn version_of(modified: Timestamp) -> u32 {
    u32::try_from(modified.seconds() - FIRST_SECOND).unwrap()
}
