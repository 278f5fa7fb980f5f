//! What a sender keeps between runs, so that the same offer is found again under the same link.

use super::TransferError;
use crate::digest::PurposeHasher;
use crate::limits::STATE_FILE_BYTES_MAX;
use crate::secret::{Key, Room, SessionId, SessionSecret};
use crate::transport::{TransportError, fresh_key, fresh_room, fresh_session_secret};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The secrets and the port of one offer.
#[derive(Debug)]
pub(super) struct OfferState {
    pub(super) room: Room,
    pub(super) key: Key,
    master: SessionSecret,
    pub(super) port: Option<u16>,
    file: Option<PathBuf>,
}

/// Magic, room, key, master secret, port, checksum.
const FILE_BYTES: usize = 8 + 16 + 16 + 32 + 2 + 32;
const MAGIC: &[u8; 8] = b"haulofr1";

impl OfferState {
    /// The state that `folder` keeps for the offer `id`, or a fresh one. A file that is not whole counts as none.
    pub(super) fn load(folder: Option<&Path>, id: &[u8; 32]) -> Result<Self, TransferError> {
        let file = folder.map(|folder| folder.join("offers").join(file_name(id)));
        if let Some(kept) = file.as_deref().and_then(read) {
            return Ok(Self { file, ..kept });
        }
        let fresh = |error: TransportError| TransferError::Io {
            what: "this machine gave no random numbers".into(),
            cause: error.into(),
        };
        Ok(Self {
            room: fresh_room().map_err(fresh)?,
            key: fresh_key().map_err(fresh)?,
            master: fresh_session_secret().map_err(fresh)?,
            port: None,
            file,
        })
    }

    /// Keeps the state, with `port`, readable by this user alone.
    pub(super) fn save(&self, port: u16) -> io::Result<()> {
        if self.port == Some(port) {
            return Ok(());
        }
        let Some(file) = &self.file else { return Ok(()) };
        if let Some(folder) = file.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let fresh = file.with_extension(std::process::id().to_string());
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(&fresh).and_then(|mut out| {
            out.write_all(&self.to_bytes(port))?;
            out.sync_all()
        });
        written.and_then(|()| fs::rename(&fresh, file)).inspect_err(|_| drop(fs::remove_file(&fresh)))
    }

    /// The secret of session `id`. It is derived, so that a host that starts again knows its sessions.
    pub(super) fn session_secret(&self, id: SessionId) -> SessionSecret {
        let mut hasher = PurposeHasher::keyed("haul 1 session secret", self.master.as_bytes());
        SessionSecret::from_bytes(hasher.field(id.as_bytes()).finish())
    }

    fn to_bytes(&self, port: u16) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(self.room.as_bytes());
        bytes.extend_from_slice(self.key.as_bytes());
        bytes.extend_from_slice(self.master.as_bytes());
        bytes.extend_from_slice(&port.to_le_bytes());
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<32>()?;
        if bytes.len() != FILE_BYTES || !body.starts_with(MAGIC) || checksum(body) != *sum {
            return None;
        }
        Some(Self {
            room: Room::from_bytes(body[8..24].try_into().ok()?),
            key: Key::from_bytes(body[24..40].try_into().ok()?),
            master: SessionSecret::from_bytes(body[40..72].try_into().ok()?),
            port: Some(u16::from_le_bytes(body[72..74].try_into().ok()?)).filter(|&port| port > 0),
            file: None,
        })
    }
}

/// Names a run that offers what `offer` names, and takes files into the folder that `folder` names.
pub(super) fn share_id(offer: &[u8; 32], folder: &[u8; 32]) -> [u8; 32] {
    PurposeHasher::new("haul 1 share").field(offer).field(folder).finish()
}

/// Names a folder that receives, however it was written.
pub(super) fn folder_id(folder: &Path) -> io::Result<[u8; 32]> {
    let folder = folder.canonicalize()?;
    if !folder.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let mut hasher = PurposeHasher::new("haul 1 listening folder");
    Ok(hasher.field(folder.as_os_str().as_encoded_bytes()).finish())
}

fn read(file: &Path) -> Option<OfferState> {
    // Neither a link nor a pipe in the file's place is of any use, and opening a pipe would wait for its other end.
    if !fs::symlink_metadata(file).ok()?.is_file() {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::new());
    fs::File::open(file).ok()?.take(STATE_FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    OfferState::from_bytes(&bytes)
}

fn checksum(body: &[u8]) -> [u8; 32] {
    PurposeHasher::new("haul 1 offer state").field(body).finish()
}

fn file_name(id: &[u8; 32]) -> String {
    data_encoding::HEXLOWER.encode(&id[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_offer_finds_its_secrets_again() {
        let folder = tempfile::tempdir().unwrap();
        let id = [1; 32];
        let first = OfferState::load(Some(folder.path()), &id).unwrap();
        first.save(4285).unwrap();
        let again = OfferState::load(Some(folder.path()), &id).unwrap();
        assert_eq!(again.to_bytes(4285), first.to_bytes(4285));
        assert_eq!(again.port, Some(4285));
        let session = SessionId::from_bytes([5; 16]);
        assert_eq!(again.session_secret(session).as_bytes(), first.session_secret(session).as_bytes());
        let other = OfferState::load(Some(folder.path()), &[2; 32]).unwrap();
        assert_ne!(other.to_bytes(4285), first.to_bytes(4285));
    }

    #[test]
    fn row_86_a_damaged_state_file_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let id = [1; 32];
        let state = OfferState::load(Some(folder.path()), &id).unwrap();
        state.save(4285).unwrap();
        let file = state.file.clone().unwrap();
        let whole = fs::read(&file).unwrap();
        for place in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[place] ^= 1;
            assert!(OfferState::from_bytes(&damaged).is_none(), "byte {place}");
            assert!(OfferState::from_bytes(&whole[..place]).is_none(), "{place} bytes");
        }
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
        assert!(read(&file).is_none());
    }
}
