//! Files that a page offers, as a listing.

use crate::chunk::Length;
use crate::manifest::{
    Attributes, Entry, EntryIndex, EntryKind, Listing, ListingBuilder, ListingFault, Mode, Timestamp,
};
use crate::rel_path::RelPath;
use std::collections::{BTreeMap, HashMap};

/// A file that a page offers.
#[derive(Clone, Debug)]
pub struct HandedFile {
    /// Where it goes, relative to the destination.
    pub path: RelPath,
    /// How long it is.
    pub length: Length,
    /// When its content last changed, in whole seconds since 1970.
    pub modified: i64,
}

/// The listing of files and the folders above them, and the entry of each file; a fault where they cannot be written side
/// by side.
pub(super) fn listing_of(files: &[HandedFile]) -> Result<(Listing, Vec<EntryIndex>), ListingFault> {
    let mut places = BTreeMap::new();
    for file in files {
        let mut above = file.path.parent();
        while let Some(folder) = above {
            above = folder.parent();
            places.entry(folder).or_insert(None);
        }
    }
    for file in files {
        // A file where a folder has to be, or two of one path.
        if places.insert(file.path.clone(), Some(file)).is_some() {
            return Err(ListingFault::Duplicate);
        }
    }
    // A page knows no times of folders.
    let newest = files.iter().map(|file| file.modified).max().unwrap_or_default();
    let (mut builder, mut indices) = (ListingBuilder::new(), HashMap::new());
    for (index, (path, file)) in (0..).map(EntryIndex).zip(&places) {
        indices.insert(path, index);
        builder.push(entry(path.clone(), *file, newest))?;
    }
    let totals = builder.totals();
    let entries = files.iter().filter_map(|file| indices.get(&file.path).copied()).collect();
    Ok((builder.finish(totals)?, entries))
}

fn entry(path: RelPath, file: Option<&HandedFile>, newest: i64) -> Entry {
    let kind = file.map_or(EntryKind::Folder, |file| EntryKind::File { length: file.length });
    Entry {
        path,
        kind,
        mode: Mode::masked(if file.is_some() { 0o644 } else { 0o755 }),
        modified: Timestamp::clamped(file.map_or(newest, |file| file.modified), 0),
        attributes: Attributes::default(),
    }
}
