//! Files cut by their content, a page at a time.

use super::{Source, SourceError};
use crate::chunk::{ChunkIndex, Length};
use crate::limits::{OUTLINE_PAGE_DATA_BYTES, OUTLINE_PAGE_SEGMENTS_MAX};
use crate::outline::{Cutter, Segment, Shape};

impl Source {
    /// The segments of a file from `offset` on, where one starts: one, and as many more as fit a page.
    ///
    /// When this returns, the file still had its listed content after the bytes were read.
    pub fn outline(&self, entry: u32, offset: u64) -> Result<Vec<Segment>, SourceError> {
        let identity = self.file_identity(entry, ChunkIndex(0))?;
        let no_such_bytes = SourceError::NoSuchBytes { entry, chunk: ChunkIndex(0) };
        let shape = Shape::of(Length(identity.bytes)).filter(|_| offset < identity.bytes).ok_or(no_such_bytes)?;
        let mut cutter = Cutter::new(shape);
        let mut segments = Vec::new();
        let mut covered = 0;
        let mut read = || {
            let open = self.open(entry, identity)?;
            let mut at = offset;
            self.buffers.with(|buffer| {
                while at < identity.bytes {
                    let count = buffer.len().min(usize::try_from(identity.bytes - at).unwrap_or(usize::MAX));
                    open.read_exactly(at, &mut buffer[..count])?;
                    at += count as u64;
                    let mut bytes = &buffer[..count];
                    while !bytes.is_empty() {
                        let (taken, segment) = cutter.take(bytes);
                        bytes = &bytes[taken..];
                        covered += segment.map_or(0, |segment| u64::from(segment.length));
                        segments.extend(segment);
                        if segments.len() == OUTLINE_PAGE_SEGMENTS_MAX || covered >= OUTLINE_PAGE_DATA_BYTES {
                            return open.check_content();
                        }
                    }
                }
                segments.extend(cutter.end());
                open.check_content()
            })
        };
        read().map_err(|trouble| self.fault(entry, trouble))?;
        Ok(segments)
    }
}
