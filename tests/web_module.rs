//! The page's module, as it is committed, computes what the library does.

#![allow(clippy::unwrap_used, clippy::cast_precision_loss, clippy::cast_sign_loss, clippy::float_cmp)]

use haul::chunk::{ChunkIndex, Geometry, Length};
use haul::digest::{ChunkDigest, RootMerger, chunk_digest, empty_file_digest};
use haul::limits::FILE_BYTES_MAX;
use haul::sealing::{NONCE_BYTES, SEALING_KEYS_BYTES, SealingKeys, TAG_BYTES};
use haul::secret::Room;
use wasmi::{Engine, Instance, Linker, Memory, Module, Store, TypedFunc, WasmParams, WasmResults};

/// The module of another build, where one is to be compared; else the committed one.
fn bytes() -> Vec<u8> {
    let built = std::env::var_os("HAUL_PAGE_MODULE").map(std::path::PathBuf::from);
    let committed = || concat!(env!("CARGO_MANIFEST_DIR"), "/src/web/page/haul.wasm").into();
    std::fs::read(built.unwrap_or_else(committed)).unwrap()
}

struct Page {
    store: Store<()>,
    instance: Instance,
    memory: Memory,
}

impl Page {
    fn new() -> Self {
        let engine = Engine::default();
        let module = Module::new(&engine, bytes()).unwrap();
        assert_eq!(module.imports().count(), 0, "it needs nothing of the page");
        let mut store = Store::new(&engine, ());
        let instance = Linker::new(&engine).instantiate_and_start(&mut store, &module).unwrap();
        let memory = instance.get_memory(&store, "memory").unwrap();
        Self { store, instance, memory }
    }

    fn call<P: WasmParams, R: WasmResults>(&mut self, name: &str, parameters: P) -> R {
        let function: TypedFunc<P, R> = self.instance.get_typed_func(&self.store, name).unwrap();
        function.call(&mut self.store, parameters).unwrap()
    }

    fn put(&mut self, bytes: &[u8]) -> u32 {
        let at: u32 = self.call("alloc", u32::try_from(bytes.len()).unwrap());
        assert_ne!(at, 0);
        self.memory.write(&mut self.store, at as usize, bytes).unwrap();
        at
    }

    fn take(&mut self, at: u32, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.read(&self.store, at as usize, &mut bytes).unwrap();
        let () = self.call("free", (at, u32::try_from(length).unwrap()));
        bytes
    }
}

fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 7) as u8).collect()
}

#[test]
fn it_is_short_and_of_the_version_of_its_specification() {
    assert!(bytes().len() < 64 * 1024);
    assert_eq!(Page::new().call::<_, u32>("version", ()), 1);
}

#[test]
fn files_are_split_as_the_library_splits_them() {
    let mut page = Page::new();
    let mut lengths = vec![0, 1, 262_144, 262_145, FILE_BYTES_MAX, FILE_BYTES_MAX + 1, 1 << 53];
    lengths.extend((0..52).flat_map(|log2| [(1_u64 << log2) - 1, 1 << log2, (1 << log2) + 1]));
    for length in lengths {
        let expected = Geometry::of(Length(length)).map_or((0, 0), |it| (it.chunk_length().0, it.count().0));
        let (file, count) = (length as f64, page.call::<_, u32>("chunk_count", length as f64));
        assert_eq!((page.call::<_, f64>("chunk_length", file) as u64, count), expected, "{length}");
    }
    for none in [-1.0, 0.5, f64::NAN, f64::INFINITY, 1e300] {
        assert_eq!(page.call::<_, f64>("chunk_length", none), 0.0, "{none}");
    }
}

#[test]
fn chunks_and_files_hash_to_what_the_library_says() {
    let mut page = Page::new();
    for length in [0, 1, 1024, 1025, 262_143, 262_144, 262_145, 3 * 262_144 + 17] {
        let (bytes, file) = (noise(length), length as f64);
        let geometry = Geometry::of(Length(length as u64)).unwrap();
        let (mut merger, mut root, mut digests) = (RootMerger::new(geometry), empty_file_digest(), Vec::new());
        for (index, chunk) in (0..).zip(bytes.chunks(geometry.chunk_length().0 as usize)) {
            let (at, out) = (page.put(chunk), page.put(&[0; 32]));
            let chunk_bytes = u32::try_from(chunk.len()).unwrap();
            assert_eq!(page.call::<_, u32>("chunk_digest", (file, index, at, chunk_bytes, out)), 1);
            assert_eq!(page.call::<_, u32>("chunk_digest", (file, index, at, chunk_bytes - 1, out)), 0, "too short");
            assert_eq!(page.call::<_, u32>("chunk_digest", (file, 99_u32, at, chunk_bytes, out)), 0, "no such chunk");
            let found: [u8; 32] = page.take(out, 32).try_into().unwrap();
            page.take(at, chunk.len());
            assert_eq!(ChunkDigest(found), chunk_digest(geometry, ChunkIndex(index), chunk), "{length} {index}");
            root = merger.push(ChunkDigest(found)).unwrap_or(root);
            digests.extend(found);
        }
        let (at, out) = (page.put(&digests), page.put(&[0; 32]));
        let count = u32::try_from(digests.len() / 32).unwrap();
        assert_eq!(page.call::<_, u32>("root", (file, at, count, out)), 1);
        assert_eq!(page.call::<_, u32>("root", (file, at, count + 1, out)), 0);
        assert_eq!(page.take(out, 32), root.0, "{length}");
    }
}

#[test]
fn what_one_side_seals_the_other_opens() {
    let (key, room) = ([7; 16], [9; 16]);
    let library = SealingKeys::derive(&key, &room);
    let mut page = Page::new();
    let (key_at, room_at, keys) = (page.put(&key), page.put(&room), page.put(&[0; SEALING_KEYS_BYTES]));
    let () = page.call("derive", (key_at, room_at, keys));
    for length in [0, 1, 63, 64, 65, 1000, 20_000] {
        let (text, nonce) = (noise(length), [length as u8; NONCE_BYTES]);
        let body = [&nonce[..], &text, &[0; TAG_BYTES]].concat();
        let sealed_bytes = u32::try_from(body.len()).unwrap();
        // A call of the page.
        let at = page.put(&body);
        assert_eq!(page.call::<_, u32>("seal_call", (keys, at, length as u32)), sealed_bytes);
        let mut call = page.take(at, body.len());
        let mut same = body.clone();
        assert!(library.seal_call(&mut same) && same == call, "byte for byte");
        let opened = library.open_call(&mut call).unwrap();
        assert_eq!(call[opened], text);
        // The library's answer to it.
        let mut answer = body.clone();
        assert!(library.seal_answer(&nonce, &mut answer));
        let (at, nonce_at) = (page.put(&answer), page.put(&nonce));
        assert_eq!(page.call::<_, u32>("open_answer", (keys, nonce_at, at, sealed_bytes)), length as u32 + 1);
        assert_eq!(page.take(at, body.len())[NONCE_BYTES..][..length], text);
        // An answer to another call, and one that was changed on its way.
        let (at, other) = (page.put(&answer), page.put(&[255; NONCE_BYTES]));
        assert_eq!(page.call::<_, u32>("open_answer", (keys, other, at, sealed_bytes)), 0);
        page.take(at, body.len());
        *answer.last_mut().unwrap() ^= 1;
        let at = page.put(&answer);
        assert_eq!(page.call::<_, u32>("open_answer", (keys, nonce_at, at, sealed_bytes)), 0);
        // The other side, as the page's own tests have it.
        let at = page.put(&same);
        assert_eq!(page.call::<_, u32>("open_call", (keys, at, sealed_bytes)), length as u32 + 1);
        let at = page.put(&body);
        assert_eq!(page.call::<_, u32>("seal_answer", (keys, nonce_at, at, length as u32)), sealed_bytes);
        let mut answer = page.take(at, body.len());
        assert!(library.open_answer(&nonce, &mut answer).is_some());
    }
}

#[test]
fn rooms_are_read_as_links_write_them() {
    let mut page = Page::new();
    let room = Room::from_bytes([0xa5; 16]);
    for (text, is_good) in [
        (room.to_string(), true),
        (room.to_string().to_lowercase(), true),
        (format!("{}9", &room.to_string()[..25]), false),
        (room.to_string()[..25].to_owned(), false),
        (String::new(), false),
    ] {
        let (at, out) = (page.put(text.as_bytes()), page.put(&[0; 16]));
        let read: u32 = page.call("decode_base32", (at, u32::try_from(text.len()).unwrap(), out));
        assert_eq!(read == 1, is_good, "{text}");
        assert_eq!(page.take(out, 16) == *room.as_bytes(), is_good, "{text}");
    }
}
