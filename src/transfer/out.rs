//! One file that goes elsewhere than under its own name: to a path that the user chose, or into a stream.

use super::receive::invitation_of;
use super::{Out, ReceiveSettings, TransferError};
use crate::digest::PurposeHasher;
use crate::manifest::{Entry, Listing, ListingBuilder};
use crate::printable::printable_path;
use crate::rel_path::RelPath;
use crate::secret::Invitation;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a stream is kept by whose own name is never written.
const STREAM_NAME: &str = "stream";

/// The folder below `base` that keeps what the stream behind a link or a code needs: the same for the same one. It is
/// made, for this user alone, where there is none.
pub fn stream_folder(base: &Path, invitation: &str) -> Result<PathBuf, TransferError> {
    let mut hasher = PurposeHasher::new("haul 1 stream");
    match invitation_of(invitation)? {
        Invitation::Code(code) => hasher.field(code.to_text().as_bytes()),
        Invitation::Link(link) => hasher.field(link.room().as_bytes()),
    };
    let folder = base.join(data_encoding::HEXLOWER.encode(&hasher.finish()[..16]));
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(|error| TransferError::Io {
        what: format!("the folder `{}` cannot be used", printable_path(&folder)),
        cause: error.into(),
    })?;
    Ok(folder)
}

/// The listing with its only file under the name that it gets here; as it is where nothing else was asked for, or it is
/// no listing of one file.
pub(super) fn renamed(listing: &Arc<Listing>, settings: &ReceiveSettings) -> Arc<Listing> {
    let Some((entry, name)) = only_file(listing).and_then(|entry| Some((entry, name(entry, settings)?))) else {
        return Arc::clone(listing);
    };
    let mut builder = ListingBuilder::new();
    let pushed = builder.push(Entry { path: name, ..entry.clone() });
    let totals = builder.totals();
    let built = pushed.ok().and_then(|()| builder.finish(totals).ok());
    built.map_or_else(|| Arc::clone(listing), Arc::new)
}

/// Refuses an offer of anything but one file, where one is wanted. What is resumed may be anything that was accepted.
pub(super) fn refuse_others(listing: &Listing, settings: &ReceiveSettings) -> Result<(), TransferError> {
    if settings.out.is_none() || settings.resuming.is_some() || only_file(listing).is_some() {
        return Ok(());
    }
    let totals = listing.totals();
    Err(TransferError::NotOneFile { files: u64::from(totals.files), folders: u64::from(totals.folders) })
}

fn only_file(listing: &Listing) -> Option<&Entry> {
    match listing.entries() {
        [entry] => entry.file_length().map(|_| entry),
        _ => None,
    }
}

fn name(entry: &Entry, settings: &ReceiveSettings) -> Option<RelPath> {
    match settings.out.as_ref()? {
        Out::Name(name) => Some(name.clone()),
        Out::Stream if entry.path.refusal().is_none() => None,
        Out::Stream => RelPath::parse(STREAM_NAME).ok(),
    }
}
