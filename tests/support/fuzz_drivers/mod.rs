//! What every fuzz target does with its bytes: one body, called by `fuzz/` and by the replay of the committed corpora.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, missing_docs, unreachable_pub)]

mod codec;
mod http;
mod manifest_file;
mod pair;
mod partial;
mod receiver;
mod sender;
#[path = "../sim_disk.rs"]
mod sim_disk;
mod tree;
mod world;

use peak_alloc::PeakAlloc;
use std::sync::LazyLock;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Takes a fuzzer's bytes, and panics where the library breaks a promise on them.
pub type Driver = fn(&[u8]);

/// Every target with its driver, in the order of their names.
pub const TARGETS: [(&str, Driver); 15] = [
    ("canary", canary),
    ("code_parse", codec::code_parse),
    ("frame_decode", codec::frame_decode),
    ("http_range", http::http_range),
    ("link_parse", codec::link_parse),
    ("manifest_decode", codec::manifest_decode),
    ("manifest_file", manifest_file::manifest_file),
    ("pair_sim", pair::pair_sim),
    ("partial_open", partial::partial_open),
    ("piece_decode", codec::piece_decode),
    ("printable", codec::printable),
    ("receiver_sm", receiver::receiver_sm),
    ("safe_rel_path", codec::safe_rel_path),
    ("sender_sm", sender::sender_sm),
    ("tree_hash", tree::tree_hash),
];

/// Runs the target `name` on `bytes`.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, driver) = TARGETS.iter().find(|(target, _)| *target == name).expect("the target is in the table");
    driver(bytes);
}

/// Whether the session is one whose sender connected: the fuzzer chooses by the length of its bytes, so that no byte of them
/// changed its meaning when there came to be such sessions.
fn is_pushed(bytes: &[u8]) -> bool {
    bytes.len() % 4 == 3
}

/// Whether compressed pieces travel: by the length as well.
fn has_text(bytes: &[u8]) -> bool {
    matches!(bytes.len() % 8, 6 | 7)
}

/// Whether older versions of files are made use of: by the length once more.
fn has_older(bytes: &[u8]) -> bool {
    bytes.len() % 3 == 1
}

/// Must fail on its corpus: proof that a failure of any other target would be seen.
fn canary(bytes: &[u8]) {
    assert!(!bytes.starts_with(b"haul canary"), "the canary died, as it must");
}

/// What `act` returns, and the most bytes that it held allocated at once.
fn peak_of<T>(act: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = act();
    (result, ALLOCATOR.peak_usage().saturating_sub(before))
}

/// Shows a step of a session where `HAUL_FUZZ_TRACE` is set: the story behind an input that fails.
fn trace(step: &impl std::fmt::Debug) {
    static WANTED: LazyLock<bool> = LazyLock::new(|| std::env::var_os("HAUL_FUZZ_TRACE").is_some());
    if *WANTED {
        eprintln!("{step:?}");
    }
}
