//! Events about what a folder holds unfinished.

use super::Events;
use crate::cli::report::{Failure, Side};
use haul::transfer::{LeftBehind, TransferError, Unfinished};
use serde_json::json;
use std::io::Write;
use std::path::Path;

impl<W: Write> Events<W> {
    /// Writes what a folder holds of a transfer, before it is continued.
    pub(crate) fn unfinished(&mut self, transfer: &Unfinished) {
        let addresses: Vec<_> = transfer.addresses().iter().map(ToString::to_string).collect();
        self.put(json!({
            "event": "unfinished", "name": transfer.name, "others": transfer.others, "files": transfer.files,
            "bytes": transfer.bytes, "files_done": transfer.files_published, "bytes_kept": transfer.bytes_kept,
            "began": transfer.began, "addresses": addresses,
        }));
    }

    /// Writes what nothing tells how to continue.
    pub(crate) fn left_behind(&mut self, left: &LeftBehind) {
        let path = left.path.to_string_lossy();
        self.put(json!({
            "event": "left_behind", "path": path, "destined": left.destined, "bytes": left.bytes,
            "bytes_kept": left.bytes_kept,
        }));
    }

    /// Writes how much is there of one file of a transfer.
    pub(crate) fn part(&mut self, part: &LeftBehind) {
        self.put(json!({
            "event": "part", "path": part.path.to_string_lossy(), "destined": part.destined, "bytes": part.bytes,
            "bytes_kept": part.bytes_kept,
        }));
    }

    /// Writes that something unfinished is gone, or why it is not.
    pub(crate) fn dropped(&mut self, path: Option<&Path>, bytes_kept: u64, error: Option<&TransferError>) {
        let error = error.map(|error| Failure::of(error, Side::Receiving).sentence());
        self.put(json!({
            "event": "dropped", "path": path.map(Path::to_string_lossy), "bytes_kept": bytes_kept, "ok": error.is_none(),
            "error": error,
        }));
    }
}
