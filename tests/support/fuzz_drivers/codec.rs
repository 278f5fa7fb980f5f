//! Decoders: what comes out is valid, has one form, and costs no more memory than the bytes that made it.

use super::peak_of;
use arbitrary::{Result, Unstructured};
use haul::chunk::Length;
use haul::codec::{Decoder, Encoder, Level};
use haul::digest::ChunkDigest;
use haul::limits::{CHUNK_BYTES_MIN, COMPONENT_BYTES_MAX, ENTRIES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX};
use haul::manifest::{
    Attribute, Attributes, EntryIndex, EntryKind, HashPages, LinkTarget, Listing, ListingBuilder, Totals,
};
use haul::rel_path::RelPath;
use haul::secret::{CODE_WORDS, Code, CodeFault, Invitation, Link, code_words, complete_word};
use haul::session::listing_page_starts;
use haul::wire::{Frame, FrameHeader, Message, WireEntry, WireKind, WireTotals};
use std::path::{Component, Path};
use unicode_width::UnicodeWidthStr;

/// Bytes as a lane reads them: frame after frame up to the first that is refused.
pub(super) fn frame_decode(bytes: &[u8]) {
    let mut rest = bytes;
    loop {
        let (decoded, peak) = peak_of(|| FrameHeader::decode_frame(rest));
        let Ok((frame, used)) = decoded else {
            assert_memory_follows(rest.len(), peak);
            return;
        };
        assert_memory_follows(used, peak);
        assert_eq!(frame.encode().unwrap(), rest[..used], "a frame has one form");
        rest = &rest[used..];
    }
}

/// Two bytes choose how long a piece is said to be, the rest is what came for it; and the same bytes as a piece that is sent.
pub(super) fn piece_decode(bytes: &[u8]) {
    let Some((length, payload)) = bytes.split_first_chunk::<2>() else { return };
    let length = 4 * usize::from(u16::from_le_bytes(*length)) + 1;
    let mut decoder = Decoder::new();
    // Bytes behind the piece, which must stay as they are.
    let mut room = vec![0xa5; length + 64];
    let before = decoder.memory_bytes();
    let decoded = decoder.decode(payload, &mut room[..length]);
    assert!(room[length..].iter().all(|&byte| byte == 0xa5), "bytes outside of the piece are written");
    assert_eq!(decoder.memory_bytes(), before, "the peer chooses how much memory decoding takes");
    if decoded.is_ok() {
        let mut again = vec![0x5a; length];
        assert_eq!(decoder.decode(payload, &mut again), Ok(()));
        assert!(again == room[..length], "every byte of the piece is written, by the payload alone");
    }
    let level = Level::new(1 + (payload.len() % 19) as u8).expect("a level");
    let mut encoder = Encoder::new();
    encoder.seems_to_shrink(payload);
    if let Some(shrunk) = encoder.encode(payload, level) {
        assert!(shrunk.len() < payload.len());
        let mut back = vec![0; payload.len()];
        assert_eq!(decoder.decode(shrunk, &mut back), Ok(()));
        assert!(back == payload, "a piece comes back");
    }
}

/// A listing entry of six bytes becomes a struct of 64, twice while its vector grows; announced lengths cost nothing.
fn assert_memory_follows(input: usize, peak: usize) {
    assert!(peak <= 64 * 1024 + 16 * input, "{peak} bytes of memory for {input} bytes of input");
}

/// A manifest near a valid one, some of its bytes changed.
pub(super) fn manifest_decode(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let Ok(mut stream) = encoded_pages(&mut input) else { return };
    let mutations = input.int_in_range(0..=8u8).unwrap_or_default();
    for _ in 0..mutations {
        let place = input.choose_index(stream.len()).unwrap_or_default();
        stream[place] = input.arbitrary().unwrap_or_default();
    }
    if let Some(listing) = decoded_listing(&stream) {
        assert_valid(&listing);
        assert_survives_the_wire(&listing);
        push_hash_pages(&listing, &mut input);
    }
}

fn encoded_pages(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut entries: Vec<WireEntry> = Vec::new();
    let mut folders: Vec<String> = Vec::new();
    for number in 0..input.int_in_range(0..=40u8)? {
        let suffix = if input.ratio(1, 4)? { input.arbitrary::<&str>()? } else { "" };
        let name = format!("{number:02}{suffix}");
        let path = folders.last().map_or(name.clone(), |folder| format!("{folder}/{name}"));
        let kind = match input.int_in_range(0..=7u8)? {
            0 => WireKind::Folder,
            1 => WireKind::File(0),
            2 => WireKind::File(input.arbitrary()?),
            3 => WireKind::Symlink(any_target(input)?),
            4 => WireKind::HardLink(any_file(input, &entries)?),
            _ => WireKind::File(input.int_in_range(0..=5u64)? * CHUNK_BYTES_MIN + input.int_in_range(0..=2u64)?),
        };
        let is_link = matches!(kind, WireKind::Symlink(_) | WireKind::HardLink(_));
        let has_attributes = input.ratio(1, 4)? && (!is_link || input.ratio(1, 8)?);
        let attributes = if has_attributes { any_attributes(input)? } else { Attributes::NONE };
        let is_folder = kind == WireKind::Folder;
        entries.push(WireEntry {
            path: path.as_str().into(),
            kind,
            mode: input.arbitrary()?,
            seconds: input.arbitrary()?,
            nanoseconds: input.arbitrary()?,
            attributes,
        });
        if is_folder {
            folders.push(path);
        } else if input.ratio(1, 4)? {
            drop(folders.pop());
        }
    }
    let totals = honest_totals(&entries);
    let mut stream = Vec::new();
    for page in 0.. {
        let cut = input.int_in_range(0..=entries.len())?;
        let rest = entries.split_off(cut);
        let is_last = rest.is_empty() || page == 3;
        let totals = is_last.then_some(totals);
        let message = Message::ListingPage { page, entries: std::mem::replace(&mut entries, rest), totals };
        stream.extend(message.to_frame().unwrap_or_default());
        if is_last {
            break;
        }
    }
    Ok(stream)
}

/// Mostly a target that stays where it may.
fn any_target(input: &mut Unstructured<'_>) -> Result<Box<str>> {
    let climbs = "../".repeat(input.int_in_range(0..=3)?);
    let rest = if input.ratio(1, 4)? { input.arbitrary::<&str>()? } else { "x/y" };
    Ok(format!("{climbs}{rest}").into())
}

/// Mostly the index of a file.
fn any_file(input: &mut Unstructured<'_>, entries: &[WireEntry]) -> Result<u32> {
    let files = (0..).zip(entries).filter(|(_, entry)| matches!(entry.kind, WireKind::File(_))).map(|(index, _)| index);
    let files: Vec<u32> = files.collect();
    if files.is_empty() || input.ratio(1, 8)? { input.arbitrary() } else { input.choose(&files).copied() }
}

fn any_attributes(input: &mut Unstructured<'_>) -> Result<Attributes> {
    let mut list = Vec::new();
    for number in 0..input.int_in_range(0..=4u8)? {
        let value: &[u8] = input.arbitrary()?;
        list.push(Attribute { name: format!("user.{number}").into(), value: value.into() });
    }
    Ok(Attributes::of(list).unwrap_or_default())
}

fn honest_totals(entries: &[WireEntry]) -> WireTotals {
    let mut totals = Totals::default();
    for entry in entries {
        match entry.kind {
            WireKind::Folder => totals.folders += 1,
            WireKind::Symlink(_) | WireKind::HardLink(_) => totals.files += 1,
            WireKind::File(length) => {
                let geometry = haul::chunk::Geometry::of(Length(length));
                totals.files += 1;
                totals.bytes = totals.bytes.wrapping_add(length);
                totals.chunks += geometry.map_or(0, |geometry| u64::from(geometry.count().0));
            }
        }
    }
    totals.into()
}

fn decoded_listing(stream: &[u8]) -> Option<Listing> {
    let mut rest = stream;
    let mut builder = ListingBuilder::new();
    loop {
        let (frame, used) = FrameHeader::decode_frame(rest).ok()?;
        assert_eq!(frame.encode().unwrap(), rest[..used], "a frame has one form");
        rest = &rest[used..];
        let Frame::Message(Message::ListingPage { entries, totals, .. }) = frame else { return None };
        for entry in &entries {
            builder.push(entry.check().ok()?).ok()?;
        }
        if let Some(totals) = totals {
            return builder.finish(totals.into()).ok();
        }
    }
}

fn assert_valid(listing: &Listing) {
    let entries = listing.entries();
    assert!(!entries.is_empty() && entries.len() <= ENTRIES_MAX as usize);
    assert!(entries.is_sorted_by(|one, next| one.path < next.path), "every path is there once, in order");
    let mut chunks = 0;
    for (index, entry) in (0..).map(EntryIndex).zip(entries) {
        let mine = listing.chunks_of(index);
        assert_eq!(mine.start, chunks);
        chunks = mine.end;
        if let Some(parent) = entry.path.parent() {
            let at = entries.binary_search_by(|other| other.path.cmp(&parent)).expect("its folder is listed");
            assert_eq!(entries[at].kind, EntryKind::Folder);
        }
        let Some(geometry) = listing.geometry(index) else {
            assert!(mine.is_empty());
            assert_valid_link(listing, index);
            continue;
        };
        let count = geometry.file_length().0.div_ceil(geometry.chunk_length().0);
        assert_eq!((mine.end - mine.start, u64::from(geometry.count().0)), (count, count));
        for number in [mine.start, mine.end.saturating_sub(1)].into_iter().filter(|number| mine.contains(number)) {
            let place = listing.place(number).unwrap();
            assert_eq!((place.entry, u64::from(place.index.0)), (index, number - mine.start));
        }
    }
    assert_eq!((listing.totals().chunks, listing.place(chunks)), (chunks, None));
}

/// What has no chunks is a folder, or a link that leads to what the listing may hold.
fn assert_valid_link(listing: &Listing, index: EntryIndex) {
    let entry = listing.entry(index).unwrap();
    assert!(entry.attributes.is_empty() || !entry.is_link());
    match &entry.kind {
        EntryKind::Folder => {}
        EntryKind::HardLink { to } => {
            assert!(*to < index && listing.entry(*to).unwrap().file_length().is_some());
        }
        EntryKind::Symlink { target } => {
            assert_eq!(LinkTarget::parse(target.as_str()).as_ref(), Ok(target));
            let folder = entry.path.parent().expect("nothing is below a link at the top");
            let mut depth = folder.components().count();
            for name in target.as_str().split('/').filter(|name| !matches!(*name, "" | ".")) {
                depth = if name == ".." { depth - 1 } else { depth + 1 };
                assert!(depth >= 1, "{:?} -> {:?}", entry.path, target);
            }
        }
        EntryKind::File { .. } => panic!("a file without a geometry"),
    }
}

fn assert_survives_the_wire(listing: &Listing) {
    let starts = listing_page_starts(listing);
    let ends = starts.iter().skip(1).map(|&end| end as usize).chain([listing.entries().len()]);
    let mut stream = Vec::new();
    for ((page, &start), end) in (0..).zip(&starts).zip(ends) {
        let entries = listing.entries()[start as usize..end].iter().map(WireEntry::from).collect();
        let totals = (end == listing.entries().len()).then(|| listing.totals().into());
        stream.extend(Message::ListingPage { page, entries, totals }.to_frame().expect("a page fits its frame"));
    }
    let again = decoded_listing(&stream).expect("what was accepted is accepted again");
    assert_eq!(again.digest(), listing.digest());
    assert_eq!(again.entries(), listing.entries());
}

fn push_hash_pages(listing: &Listing, input: &mut Unstructured<'_>) {
    let mut pages = HashPages::new();
    let mut roots = 0;
    for _ in 0..64 {
        let (skew, count) = (input.int_in_range(0..=8u64).unwrap_or(0), input.int_in_range(0..=1100usize).unwrap_or(9));
        let first = if skew == 8 { input.arbitrary().unwrap_or(u64::MAX) } else { pages.next() };
        let is_valid =
            first == pages.next() && (1..=1024).contains(&count) && first + count as u64 <= listing.totals().chunks;
        let pushed = pages.push(listing, first, vec![ChunkDigest([7; 32]); count]);
        assert_eq!(pushed.is_ok(), is_valid);
        roots += pushed.map_or(0, |roots| roots.len());
    }
    let whole = |&file: &EntryIndex| (1..=pages.next()).contains(&listing.chunks_of(file).end);
    let with_chunks = |&file: &EntryIndex| !listing.chunks_of(file).is_empty();
    assert_eq!(roots, listing.files().filter(with_chunks).filter(whole).count());
    assert_eq!(pages.held(), pages.next());
}

/// Whatever is accepted stays below the folder that it is joined to, by our rules, by those of `std` and by Windows'.
pub(super) fn safe_rel_path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match (RelPath::parse(text), RelPath::parse_listed(text)) {
        (Ok(path), Ok(listed)) => assert!(path == listed && path.refusal().is_none()),
        (Err(fault), Ok(listed)) => {
            assert_eq!(listed.refusal(), Some(fault), "what a listing may hold has its reason not to be written");
            assert!(!fault.refuses_whole_offer());
        }
        (parsed, Err(fault)) => assert_eq!((parsed, fault.refuses_whole_offer()), (Err(fault), true)),
    }
    let Ok(path) = RelPath::parse(text) else { return };
    assert_eq!(path.as_str(), text);
    assert_eq!(RelPath::parse(path.as_str()), Ok(path.clone()));
    let ours: Vec<_> = path.components().collect();
    assert!(text.len() <= PATH_BYTES_MAX && ours.len() <= PATH_DEPTH_MAX);
    let std_components: Vec<_> = Path::new(text).components().collect();
    let as_std: Vec<_> = ours.iter().map(|name| Component::Normal(name.as_ref())).collect();
    assert_eq!(std_components, as_std);
    assert!(Path::new("/root").join(text).starts_with("/root"));
    let on_windows: Vec<_> = text.split(['/', '\\']).collect();
    assert_eq!(on_windows, ours, "a name here is one name there");
    assert!(!(text.len() > 1 && text.as_bytes()[1] == b':' && text.as_bytes()[0].is_ascii_alphabetic()));
    for name in ours {
        assert!(!name.is_empty() && name != "." && name != ".." && name.len() <= COMPONENT_BYTES_MAX);
        assert!(!name.eq_ignore_ascii_case(".haul"));
        assert!(!name.chars().any(char::is_control), "{name:?}");
        assert!(!name.contains(['\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}']), "{name:?}");
    }
    let parents = std::iter::successors(Some(path.clone()), RelPath::parent).count();
    assert_eq!(parents, path.components().count());
    assert_eq!(path.with_name(path.name()), Ok(path.clone()));
}

/// Whatever is shown is harmless, no wider than asked for, and shown again as it is.
pub(super) fn printable(bytes: &[u8]) {
    let (columns, text) = bytes
        .split_first()
        .map_or((0, ""), |(&columns, text)| (usize::from(columns), std::str::from_utf8(text).unwrap_or_default()));
    let shown = haul::printable::printable(text);
    assert_harmless(&shown);
    assert_eq!(haul::printable::printable(&shown), shown, "what is shown once is shown again as it is");
    let short = haul::printable::shorten(text, columns);
    assert_harmless(&short);
    assert!(short.width() <= columns, "{} columns of {columns}: {short:?}", short.width());
    let os = haul::printable::printable_os(std::ffi::OsStr::new(text));
    assert_eq!(os, shown);
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        assert_harmless(&haul::printable::printable_os(std::ffi::OsStr::from_bytes(bytes)));
    }
}

fn assert_harmless(shown: &str) {
    for character in shown.chars() {
        let code = u32::from(character);
        assert!(code >= 0x20 && !(0x7f..=0x9f).contains(&code), "a control character in {shown:?}");
        let hides = [0x61c..=0x61c, 0x200b..=0x200f, 0x2028..=0x202e, 0x2060..=0x2069, 0xfeff..=0xfeff];
        assert!(!hides.iter().any(|range| range.contains(&code)), "a hidden character in {shown:?}");
    }
}

/// A link that is read is written as one text, which is read as the same link.
pub(super) fn link_parse(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(link) = Link::parse(text) else { return };
    let written = link.to_text();
    let again = Link::parse(&written).expect("what is written can be read");
    assert_eq!(*again.to_text(), *written);
    assert_eq!((again.addresses(), again.room()), (link.addresses(), link.room()));
    assert_eq!(again.key().as_bytes(), link.key().as_bytes());
    assert!(Link::parse(&written.to_ascii_lowercase()).is_ok(), "case does not matter");
    assert!(!link.addresses().is_empty());
    let key = data_encoding::BASE32_NOPAD.encode(link.key().as_bytes());
    // A room is public: a key that is the same as its room is not a secret to begin with.
    let is_secret = link.key().as_bytes() != link.room().as_bytes();
    assert!(!is_secret || !format!("{link:?}").contains(&key), "the key is not shown");
}

/// A code that is read is written as one text, which is read as the same code; what is said of any other text is made of
/// the list alone.
pub(super) fn code_parse(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (read, peak) = peak_of(|| Code::parse(&text));
    assert!(peak <= 16 * 1024, "{peak} bytes of memory for {} bytes of input", bytes.len());
    match &read {
        Ok(code) => {
            let written = code.to_text();
            assert!(Code::parse(&written).is_ok_and(|again| again == *code), "what is written can be read");
            assert!(!format!("{code:?}").contains(code_words_of(&written)[0]), "the words are not shown");
        }
        Err(CodeFault::UnknownWord { place, suggestion }) => {
            assert!(*place < CODE_WORDS && suggestion.is_none_or(|word| code_words().contains(&word)));
        }
        Err(CodeFault::AmbiguousWord { place, first, last }) => {
            assert!(*place < CODE_WORDS && first < last);
            assert!(code_words().contains(first) && code_words().contains(last));
        }
        Err(_) => {}
    }
    if let Ok(Invitation::Code(code)) = Invitation::parse(&text) {
        assert!(read.is_ok_and(|read| read == code), "a code is the same code as an invitation");
    }
    let first: String = text.chars().take_while(char::is_ascii_alphabetic).collect();
    for word in complete_word(&first) {
        assert!(word.starts_with(&first.to_ascii_lowercase()));
    }
}

fn code_words_of(written: &str) -> Vec<&str> {
    written.split('-').skip(1).collect()
}
