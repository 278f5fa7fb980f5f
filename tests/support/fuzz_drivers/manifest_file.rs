//! Manifest files: what is read is valid, has one form, is the same however it is cut, and costs what its bytes do.

use super::peak_of;
use arbitrary::{Result, Unstructured};
use haul::chunk::Length;
use haul::digest::{ChunkDigest, PurposeHasher};
use haul::limits::CHUNK_BYTES_MIN;
use haul::manifest::{Attributes, Entry, EntryKind, ListingBuilder, Mode, SumList, Timestamp, b3sum_line};
use haul::rel_path::RelPath;
use haul::wire::{ManifestDecoder, ManifestFault, ManifestHead, ManifestWriter};
use std::sync::Arc;

/// The bytes as they are, as lines of a list, and as the plan of a file near a valid one.
pub(super) fn manifest_file(bytes: &[u8]) {
    check(bytes, bytes.len());
    check_lines(bytes);
    let mut input = Unstructured::new(bytes);
    let Ok(Some(mut file)) = written(&mut input) else { return };
    assert!(check(&file, 7), "what is written is read");
    let mutations = input.int_in_range(1..=8u8).unwrap_or(1);
    for _ in 0..mutations {
        let place = input.choose_index(file.len()).unwrap_or_default();
        file[place] = input.arbitrary().unwrap_or_default();
    }
    if input.ratio(1, 8).unwrap_or_default() {
        file.truncate(input.choose_index(file.len()).unwrap_or_default());
    }
    // Nothing behind a checksum that is wrong would ever be seen.
    let body = file.len().saturating_sub(32);
    let sum = PurposeHasher::new("haul 1 manifest file").bytes(&file[..body]).finish();
    file.truncate(body);
    file.extend_from_slice(&sum);
    check(&file, input.int_in_range(1..=5000usize).unwrap_or(1));
}

fn written(input: &mut Unstructured<'_>) -> Result<Option<Vec<u8>>> {
    let mut builder = ListingBuilder::new();
    let mut folder = String::new();
    for number in 0..input.int_in_range(1..=40u8)? {
        let suffix = if input.ratio(1, 4)? { input.arbitrary::<&str>()? } else { "" };
        let Ok(path) = RelPath::parse_listed(&format!("{folder}{number:02}{suffix}")) else { continue };
        let length = Length(input.int_in_range(0..=5u64)? * CHUNK_BYTES_MIN + input.int_in_range(0..=2u64)?);
        let is_folder = input.ratio(1, 5)?;
        let kind = if is_folder { EntryKind::Folder } else { EntryKind::File { length } };
        let modified = Timestamp::clamped(input.arbitrary()?, input.arbitrary()?);
        let text = path.as_str().to_owned();
        let pushed = builder.push(Entry {
            path,
            kind,
            mode: Mode::masked(input.arbitrary()?),
            modified,
            attributes: Attributes::NONE,
        });
        if is_folder && pushed.is_ok() {
            folder = format!("{text}/");
        }
    }
    let totals = builder.totals();
    let Ok(listing) = builder.finish(totals) else { return Ok(None) };
    let listing = Arc::new(listing);
    let mut writer = ManifestWriter::new(Vec::new(), Arc::clone(&listing)).expect("memory takes all");
    let digest = ChunkDigest(input.arbitrary()?);
    for _ in 0..totals.chunks {
        writer.digests(&[digest]).expect("memory takes all");
    }
    Ok(Some(writer.finish().expect("memory takes all").0))
}

/// Reads a file twice, cut in two ways. True where it is good.
fn check(file: &[u8], cut: usize) -> bool {
    let (read, peak) = peak_of(|| decoded(file, file.len().max(1)));
    assert!(peak <= 256 * 1024 + 32 * file.len(), "{peak} bytes of memory for {} bytes of input", file.len());
    let again = decoded(file, cut.max(1));
    let Ok(head) = read else {
        assert_eq!(read.unwrap_err(), again.unwrap_err(), "a file is refused for one reason, however it is cut");
        return false;
    };
    assert_eq!(again.expect("a file is good however it is cut").id, head.id);
    let mut writer = ManifestWriter::new(Vec::new(), Arc::clone(&head.listing)).expect("memory takes all");
    let rows = &file[head.rows_at as usize..][..head.listing.totals().chunks as usize * 32];
    for row in rows.as_chunks::<32>().0 {
        writer.digests(&[ChunkDigest(*row)]).expect("memory takes all");
    }
    assert_eq!(writer.finish().expect("memory takes all"), (file.to_vec(), head.id), "a manifest has one form");
    true
}

fn decoded(file: &[u8], cut: usize) -> std::result::Result<ManifestHead, ManifestFault> {
    let mut decoder = ManifestDecoder::new();
    for part in file.chunks(cut) {
        decoder.decode(part)?;
    }
    decoder.finish()
}

fn check_lines(bytes: &[u8]) {
    let mut list = SumList::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        // A line that is refused leaves the others as they are.
        let _ = list.parse_line(line);
    }
    let mut again = SumList::new();
    for (path, root) in list.sums() {
        assert_eq!(RelPath::parse(path.as_str()).as_ref(), Ok(path), "only paths below the folder are taken");
        again.parse_line(b3sum_line(path.as_str(), root).as_bytes()).expect("what is written is read");
    }
    assert!(again.sums().eq(list.sums()));
}
