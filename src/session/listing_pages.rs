//! Where the pages of a listing start.

use crate::limits::{LISTING_PAGE_BYTES, LISTING_PAGE_ENTRIES_MAX};
use crate::manifest::Listing;

/// Index of the first entry of each page that a listing is cut into.
pub fn listing_page_starts(listing: &Listing) -> Vec<u32> {
    let mut starts = vec![0];
    let (mut bytes, mut entries) = (0, 0);
    for (index, entry) in (0u32..).zip(listing.entries()) {
        // Besides its path, an entry takes at most 32 bytes: varints of two, three, ten, three, ten and five bytes.
        let cost = entry.path.as_str().len() + 36;
        if entries == LISTING_PAGE_ENTRIES_MAX || (entries > 0 && bytes + cost > LISTING_PAGE_BYTES) {
            starts.push(index);
            (bytes, entries) = (0, 0);
        }
        bytes += cost;
        entries += 1;
    }
    starts
}
