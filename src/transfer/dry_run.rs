//! A dry run of a sender: walks and says what would be offered. Nobody can reach anything.

use super::panics::caught;
use super::send::{source_failure, tell_notices};
use super::{Cancel, Event, Fate, Foreseen, Observer, OfferLink, Phase, SendSettings, Summary, TransferError};
use crate::source::{EntryKind, Source, WalkOptions};
use std::time::Instant;

/// Tells what [`send`](super::send()) would offer. Of the settings, only those count that say what is
/// offered.
pub fn preview(settings: &SendSettings, observer: &dyn Observer, cancel: &Cancel) -> Result<Summary, TransferError> {
    caught(|| {
        let began = Instant::now();
        observer.event(&Event::Phase(Phase::Scanning));
        let options = WalkOptions {
            filter: settings.filter.clone(),
            stop: Some(cancel.flag()),
            symlinks: settings.symlinks,
            attributes: settings.attributes,
            ..WalkOptions::default()
        };
        let walk = Source::walk(&settings.paths, &options).map_err(source_failure)?;
        let left_out = tell_notices(&walk, observer);
        let folders = walk.entries.iter().filter(|entry| entry.kind == EntryKind::Folder).count() as u64;
        let files = walk.entries.len() as u64 - folders;
        observer.event(&Event::WouldOffer { files, folders, bytes: walk.total.0 });
        for entry in &walk.entries {
            let (bytes, link) = match &entry.kind {
                EntryKind::File { length } => (length.0, None),
                EntryKind::Folder => (0, None),
                EntryKind::HardLink { to } => {
                    let first = walk.entries.get(*to as usize).map_or("", |first| first.path.as_str());
                    (0, Some(OfferLink::Hard(first.to_owned())))
                }
                EntryKind::Symlink { target } => (0, Some(OfferLink::Symbolic(target.as_str().to_owned()))),
            };
            let (path, folder) = (entry.path.as_str().to_owned(), entry.kind == EntryKind::Folder);
            observer.event(&Event::Foreseen(Foreseen { path, folder, bytes, link, fate: Fate::Offer, reused: 0 }));
        }
        if left_out > 0 {
            return Err(TransferError::Partial { failed: left_out, total: files + left_out });
        }
        let seconds = began.elapsed().as_secs_f64();
        Ok(Summary { ok: true, files, bytes: walk.total.0, seconds, ..Summary::default() })
    })
}
