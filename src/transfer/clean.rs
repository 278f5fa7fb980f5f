//! Drops what a folder holds unfinished, unless a process has it.

use super::unfinished::{LeftBehind, Records, Unfinished};
use super::{TransferError, failed};
use crate::printable::printable_path;
use crate::store::{RealDisk, RecordId, Store, StoreError};
use std::path::Path;

/// Drops what `folder` holds of a transfer: its partial files, and then its record. Files that are complete stay, and so does
/// what other transfers may come back for.
pub fn clean(folder: &Path, transfer: &Unfinished) -> Result<(), TransferError> {
    let store = open(folder)?;
    // Held to the end, so that nobody continues it meanwhile.
    let record = match store.reopen_record(transfer.id) {
        Ok(Some(record)) => record,
        // Another process completed it.
        Ok(None) => return Ok(()),
        Err(fault) => return Err(refused(fault)),
    };
    let others = Records::around(&store, transfer.id, None).map_err(refused)?;
    for part in store.glance_at_parts().map_err(refused)? {
        let is_its = |(path, length)| transfer.memory().may_have(path, length) && !others.are_others_of(path, length);
        if part.destined.as_ref().is_some_and(|(path, length)| is_its((path, *length))) {
            store.remove_left_over(&part.name).map_err(refused)?;
        }
    }
    record.remove().map_err(refused)
}

/// Drops something in `folder` that only the link can continue.
pub fn clean_left_behind(folder: &Path, left: &LeftBehind) -> Result<(), TransferError> {
    let store = open(folder)?;
    let name = left.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if let Some(id) = name.strip_suffix(".done").and_then(RecordId::parse) {
        let record = store.reopen_record(id).map_err(refused)?;
        return record.map_or(Ok(()), |record| record.remove().map_err(refused));
    }
    let parts = store.glance_at_parts().map_err(refused)?;
    let Some(part) = parts.into_iter().find(|part| part.name == name) else { return Ok(()) };
    // A transfer that began since then, or one that this version cannot read, may come back for it.
    let is_taken = match part.destined {
        Some((path, length)) => Records::around_all(&store).map_err(refused)?.are_others_of(&path, length),
        None => !store.records().map_err(refused)?.is_empty(),
    };
    if is_taken {
        return Err(refused(StoreError::Busy { path: name.to_owned(), holder: None }));
    }
    store.remove_left_over(name).map_err(refused)
}

fn open(folder: &Path) -> Result<Store, TransferError> {
    let disk = RealDisk::open(folder).map_err(|error| TransferError::Io {
        what: format!("the folder `{}` cannot be used", printable_path(folder)),
        cause: error.into(),
    })?;
    Store::open(disk).map_err(refused)
}

fn refused(fault: StoreError) -> TransferError {
    match fault {
        StoreError::Busy { .. } => {
            TransferError::Io { what: "it is under way".into(), cause: "another process has it".into() }
        }
        fault => failed::store("what is unfinished cannot be removed", fault),
    }
}
