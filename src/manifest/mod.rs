//! What is sent: a listing of entries, pages of chunk hashes, and the seal over both.
//!
//! A manifest is streamed. The listing comes first and is frozen once it is accepted; hash pages follow in listing
//! order, each before the chunks that it describes; the seal comes last and names listing and roots together.
//!
//! Chunks are numbered across the whole listing: the first chunk of an entry is the number of chunks of all entries
//! before it. Folders, links and empty files have none.

mod b3sum;
mod attributes;
mod entry;
mod link_target;
mod listing;
mod pages;
mod seal;

pub use attributes::{ATTRIBUTE_PREFIX, Attribute, Attributes, AttributesFault, is_good_name};
pub use b3sum::{B3SUM_LINE_BYTES_MAX, SumFault, SumList, b3sum_line};
pub use entry::{Entry, EntryIndex, EntryKind, Mode, Timestamp};
pub use link_target::{LinkTarget, TargetFault};
pub use listing::{ChunkPlace, Listing, ListingBuilder, ListingFault, Totals};
pub use pages::{HashPages, PageFault, VerifiedChunk};
pub use seal::SealHasher;
