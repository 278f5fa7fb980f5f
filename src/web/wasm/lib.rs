//! What the page shares with its host, for WebAssembly: the same chunks, digests and sealing, from the same files.
//!
//! `../SPEC.md` has the functions. Every address and length is the page's own: whatever it gives wrongly can harm nobody
//! but its own memory, and that is bounded by the sandbox.
#![allow(dead_code, reason = "the host uses more of these files than the page does")]

#[path = "../../chunk.rs"]
mod chunk;
#[path = "../../digest.rs"]
mod digest;
#[path = "../../limits.rs"]
mod limits;
#[path = "../../sealing.rs"]
mod sealing;

use chunk::{ChunkIndex, Geometry, Length};
use digest::{ChunkDigest, DIGEST_BYTES, RootMerger, chunk_digest as digest_of, empty_file_digest};
use sealing::{NONCE_BYTES, Nonce, SEAL_BYTES, SEALING_KEYS_BYTES, SealingKeys};
use std::alloc::Layout;
use std::slice::{from_raw_parts, from_raw_parts_mut};

#[unsafe(no_mangle)]
extern "C" fn version() -> u32 {
    1
}

#[unsafe(no_mangle)]
extern "C" fn alloc(bytes: usize) -> *mut u8 {
    let layout = Layout::from_size_align(bytes.max(1), 16);
    // SAFETY: the size is not zero.
    layout.map_or(std::ptr::null_mut(), |layout| unsafe { std::alloc::alloc_zeroed(layout) })
}

#[unsafe(no_mangle)]
extern "C" fn free(address: *mut u8, bytes: usize) {
    if let Ok(layout) = Layout::from_size_align(bytes.max(1), 16) {
        // SAFETY: the page gives what `alloc` gave it.
        unsafe { std::alloc::dealloc(address, layout) }
    }
}

#[unsafe(no_mangle)]
extern "C" fn decode_base32(text: *const u8, text_bytes: usize, out: *mut u8) -> u32 {
    let text = bytes_at(text, text_bytes).to_ascii_uppercase();
    let mut decoded = [0; 16];
    if text.len() != 26 || data_encoding::BASE32_NOPAD.decode_mut(&text, &mut decoded).is_err() {
        return 0;
    }
    room_at(out, 16).copy_from_slice(&decoded);
    1
}

#[unsafe(no_mangle)]
extern "C" fn derive(key: *const u8, room: *const u8, keys: *mut u8) {
    let derived = SealingKeys::derive(array_at(key), array_at(room));
    room_at(keys, SEALING_KEYS_BYTES).copy_from_slice(&derived.to_bytes());
}

#[unsafe(no_mangle)]
extern "C" fn seal_call(keys: *const u8, buffer: *mut u8, text_bytes: usize) -> usize {
    let body = room_at(buffer, text_bytes + SEAL_BYTES);
    if keys_at(keys).seal_call(body) { body.len() } else { 0 }
}

#[unsafe(no_mangle)]
extern "C" fn open_call(keys: *const u8, buffer: *mut u8, bytes: usize) -> usize {
    keys_at(keys).open_call(room_at(buffer, bytes)).map_or(0, |text| text.len() + 1)
}

#[unsafe(no_mangle)]
extern "C" fn seal_answer(keys: *const u8, call: *const u8, buffer: *mut u8, text_bytes: usize) -> usize {
    let body = room_at(buffer, text_bytes + SEAL_BYTES);
    if keys_at(keys).seal_answer(nonce_at(call), body) { body.len() } else { 0 }
}

#[unsafe(no_mangle)]
extern "C" fn open_answer(keys: *const u8, call: *const u8, buffer: *mut u8, bytes: usize) -> usize {
    keys_at(keys).open_answer(nonce_at(call), room_at(buffer, bytes)).map_or(0, |text| text.len() + 1)
}

#[unsafe(no_mangle)]
extern "C" fn chunk_length(file: f64) -> f64 {
    geometry(file).map_or(0.0, |geometry| geometry.chunk_length().0 as f64)
}

#[unsafe(no_mangle)]
extern "C" fn chunk_count(file: f64) -> u32 {
    geometry(file).map_or(0, |geometry| geometry.count().0)
}

#[unsafe(no_mangle)]
extern "C" fn chunk_digest(file: f64, index: u32, bytes: *const u8, length: usize, out: *mut u8) -> u32 {
    let index = ChunkIndex(index);
    let Some(geometry) = geometry(file) else { return 0 };
    if geometry.span(index).is_none_or(|span| span.length.0 != length as u64) {
        return 0;
    }
    room_at(out, DIGEST_BYTES).copy_from_slice(&digest_of(geometry, index, bytes_at(bytes, length)).0);
    1
}

#[unsafe(no_mangle)]
extern "C" fn root(file: f64, digests: *const u8, count: u32, out: *mut u8) -> u32 {
    let Some(geometry) = geometry(file).filter(|geometry| geometry.count().0 == count) else { return 0 };
    let mut merger = RootMerger::new(geometry);
    let mut root = empty_file_digest();
    for digest in bytes_at(digests, count as usize * DIGEST_BYTES).as_chunks::<DIGEST_BYTES>().0 {
        root = merger.push(ChunkDigest(*digest)).unwrap_or(root);
    }
    room_at(out, DIGEST_BYTES).copy_from_slice(&root.0);
    1
}

/// The split of a file of so many bytes, where that is a whole number of them and not too many.
fn geometry(file: f64) -> Option<Geometry> {
    let whole = file as u64;
    (whole as f64 == file).then(|| Geometry::of(Length(whole))).flatten()
}

fn keys_at(address: *const u8) -> SealingKeys {
    SealingKeys::from_bytes(array_at(address))
}

fn nonce_at(address: *const u8) -> &'static Nonce {
    array_at::<NONCE_BYTES>(address)
}

fn array_at<const BYTES: usize>(address: *const u8) -> &'static [u8; BYTES] {
    // SAFETY: as in `bytes_at`; an array of bytes lies anywhere.
    unsafe { &*address.cast() }
}

fn bytes_at(address: *const u8, length: usize) -> &'static [u8] {
    // SAFETY: the page gives what `alloc` gave it, and calls one function at a time.
    unsafe { from_raw_parts(address, length) }
}

fn room_at(address: *mut u8, length: usize) -> &'static mut [u8] {
    // SAFETY: as in `bytes_at`, and the page gives no two overlapping buffers.
    unsafe { from_raw_parts_mut(address, length) }
}
