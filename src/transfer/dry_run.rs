//! A dry run of a sender: walks and says what would be offered. Nobody can reach anything.

use super::panics::caught;
use super::send::{source_failure, tell_notices};
use super::{Cancel, Event, Fate, Foreseen, Observer, Phase, SendSettings, Summary, TransferError};
use crate::source::{EntryKind, Source, WalkOptions};
use std::time::Instant;

/// Tells what [`send`](super::send()) would offer. Of the settings, paths and filter count.
pub fn preview(settings: &SendSettings, observer: &dyn Observer, cancel: &Cancel) -> Result<Summary, TransferError> {
    caught(|| {
        let began = Instant::now();
        observer.event(&Event::Phase(Phase::Scanning));
        let filter = settings.filter.clone();
        let options = WalkOptions { filter, stop: Some(cancel.flag()), ..WalkOptions::default() };
        let walk = Source::walk(&settings.paths, &options).map_err(source_failure)?;
        let left_out = tell_notices(&walk, observer);
        let folders = walk.entries.iter().filter(|entry| entry.kind == EntryKind::Folder).count() as u64;
        let files = walk.entries.len() as u64 - folders;
        observer.event(&Event::WouldOffer { files, folders, bytes: walk.total.0 });
        for entry in &walk.entries {
            let (folder, bytes) = match entry.kind {
                EntryKind::File { length } => (false, length.0),
                EntryKind::Folder => (true, 0),
            };
            let path = entry.path.as_str().to_owned();
            observer.event(&Event::Foreseen(Foreseen { path, folder, bytes, fate: Fate::Offer, reused: 0 }));
        }
        if left_out > 0 {
            return Err(TransferError::Partial { failed: left_out, total: files + left_out });
        }
        let seconds = began.elapsed().as_secs_f64();
        Ok(Summary { ok: true, files, bytes: walk.total.0, seconds, ..Summary::default() })
    })
}
