//! What a dry run says: what would become of each entry, and of all of them together.

use super::OfferLink;

/// What would become of one entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Foreseen {
    /// Path within the offer, raw.
    pub path: String,
    /// Whether it is a folder.
    pub folder: bool,
    /// Length of the file; 0 for a folder or a link.
    pub bytes: u64,
    /// What it leads to, where it is a link.
    pub link: Option<OfferLink>,
    /// What would become of it.
    pub fate: Fate,
    /// Bytes of the file that are there already and would not be fetched.
    pub reused: u64,
}

/// What would become of an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// Its name is taken by something else, and no rule says what to do about that.
    Conflict,
    /// It cannot be sent or stored; why was told by itself.
    Fail,
    /// A hard link that would fail, because the file that it is another name of would not be there.
    FailWithFirst,
    /// It would be fetched, as far as it is not there.
    Fetch,
    /// A folder that is there.
    Folder,
    /// A folder or a link that would be made.
    Make,
    /// Sending side: it would be offered.
    Offer,
    /// Its name is never written.
    Refuse,
    /// It would be fetched, or made, and get another name, because its own is taken.
    Rename,
    /// It would be fetched, or made, and take the place of what is there.
    Replace,
    /// The same is there.
    Reuse,
    /// What is there would be left as it is.
    Skip,
    /// A symbolic link that would be left out, because none were asked for.
    Unasked,
}

/// What would become of everything.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Forecast {
    /// Files in all, links among them.
    pub files: u64,
    /// Folders in all.
    pub folders: u64,
    /// Bytes of all files together.
    pub bytes: u64,
    /// Bytes that would be fetched.
    pub bytes_to_fetch: u64,
    /// Bytes that are there and would not be fetched.
    pub bytes_reused: u64,
    /// Files that would be fetched, wholly or in part.
    pub files_to_fetch: u64,
    /// Files that are there.
    pub files_reused: u64,
    /// Files and links whose names would be left to what is there.
    pub files_skipped: u64,
    /// Links that would be made.
    pub links_to_make: u64,
    /// Links that are there.
    pub links_reused: u64,
    /// Entries whose name is taken, with no rule for that.
    pub conflicts: u64,
    /// Entries that would be left out for their names, and symbolic links that were not asked for.
    pub refused: u64,
    /// Room at the destination, where the system can tell.
    pub free_bytes: Option<u64>,
}

impl Forecast {
    /// Counts one entry in.
    pub(super) fn add(&mut self, entry: &Foreseen) {
        let is_link = entry.link.is_some();
        match entry.fate {
            Fate::Conflict => self.conflicts += 1,
            Fate::Refuse | Fate::Unasked => self.refused += 1,
            Fate::Make | Fate::Rename | Fate::Replace if is_link => self.links_to_make += 1,
            Fate::Fetch | Fate::Rename | Fate::Replace => {
                self.files_to_fetch += 1;
                self.bytes_reused += entry.reused;
                self.bytes_to_fetch += entry.bytes - entry.reused;
            }
            Fate::Reuse if is_link => self.links_reused += 1,
            Fate::Reuse => {
                self.files_reused += 1;
                self.bytes_reused += entry.bytes;
            }
            Fate::Skip => self.files_skipped += 1,
            Fate::Fail | Fate::FailWithFirst | Fate::Folder | Fate::Make | Fate::Offer => {}
        }
    }
}
