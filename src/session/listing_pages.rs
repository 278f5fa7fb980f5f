//! Where the pages of a listing start.

use crate::limits::{LISTING_PAGE_BYTES, LISTING_PAGE_ENTRIES_MAX};
use crate::manifest::{Entry, EntryKind, Listing};

/// Index of the first entry of each page that a listing is cut into.
pub fn listing_page_starts(listing: &Listing) -> Vec<u32> {
    let mut starts = vec![0];
    let (mut bytes, mut entries) = (0, 0);
    for (index, entry) in (0u32..).zip(listing.entries()) {
        let cost = bytes_at_most(entry);
        if entries == LISTING_PAGE_ENTRIES_MAX || (entries > 0 && bytes + cost > LISTING_PAGE_BYTES) {
            starts.push(index);
            (bytes, entries) = (0, 0);
        }
        bytes += cost;
        entries += 1;
    }
    starts
}

/// Bytes that an entry takes on the wire at most.
fn bytes_at_most(entry: &Entry) -> usize {
    // Besides its text, varints of two, one, ten, three, ten, five and one byte: those of a path's length, the kind, a
    // file's length, bits, time and the number of attributes.
    let target = match &entry.kind {
        EntryKind::Symlink { target } => target.as_str().len(),
        _ => 0,
    };
    // The lengths of a name and a value are varints of two and three bytes.
    let attributes: usize = entry.attributes.list().iter().map(|attribute| attribute.bytes() + 5).sum();
    entry.path.as_str().len() + target + attributes + 36
}
