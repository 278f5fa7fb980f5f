//! What a dry run says: what would become of each entry, and of all of them together.

/// What would become of one entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Foreseen {
    /// Path within the offer, raw.
    pub path: String,
    /// Whether it is a folder.
    pub folder: bool,
    /// Length of the file; 0 for a folder.
    pub bytes: u64,
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
    /// It cannot be sent; why was told by itself.
    Fail,
    /// It would be fetched, as far as it is not there.
    Fetch,
    /// A folder that is there.
    Folder,
    /// A folder that would be made.
    Make,
    /// Sending side: it would be offered.
    Offer,
    /// Its name is never written.
    Refuse,
    /// It would be fetched and get another name, because its own is taken.
    Rename,
    /// It would be fetched and take the place of the file that is there.
    Replace,
    /// The same content is there.
    Reuse,
    /// What is there would be left as it is.
    Skip,
}

/// What would become of everything.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Forecast {
    /// Files in all.
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
    /// Files that would be left as they are.
    pub files_skipped: u64,
    /// Files and folders whose name is taken, with no rule for that.
    pub conflicts: u64,
    /// Files and folders that would be left out for their names.
    pub refused: u64,
    /// Room at the destination, where the system can tell.
    pub free_bytes: Option<u64>,
}

impl Forecast {
    /// Counts one entry in.
    pub(super) fn add(&mut self, entry: &Foreseen) {
        match entry.fate {
            Fate::Conflict => self.conflicts += 1,
            Fate::Refuse => self.refused += 1,
            Fate::Fetch | Fate::Rename | Fate::Replace => {
                self.files_to_fetch += 1;
                self.bytes_reused += entry.reused;
                self.bytes_to_fetch += entry.bytes - entry.reused;
            }
            Fate::Reuse => {
                self.files_reused += 1;
                self.bytes_reused += entry.bytes;
            }
            Fate::Skip => self.files_skipped += 1,
            Fate::Fail | Fate::Folder | Fate::Make | Fate::Offer => {}
        }
    }
}
