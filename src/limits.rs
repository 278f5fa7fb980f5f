//! Every size, count and time limit of the project, with its reason; no peer and no option can raise one.

use std::time::Duration;

/// Shortest chunk: below this the hash and table overhead per chunk outgrows what a resume saves.
pub const CHUNK_BYTES_MIN: u64 = 256 * KIB;
/// Chunk length that small geometries stop doubling at: the most that a cut link may cost one lane of a large file.
pub const CHUNK_BYTES_COMFORT: u64 = 16 * MIB;
/// Chunks that a file is split into before its chunk length doubles, as long as that stays comfortable.
pub const CHUNKS_PER_FILE_COMFORT: u64 = 16_384;
/// Most chunks of one file: bounds a `.part` table at 32 MiB.
pub const CHUNKS_PER_FILE_MAX: u64 = 1 << 20;
/// Longest file, 4 PiB: chunk arithmetic stays far from every integer edge, and `off_t` holds it.
pub const FILE_BYTES_MAX: u64 = 1 << 52;

/// Longest path component in bytes, the limit of ext4, xfs, btrfs, APFS and NTFS.
pub const COMPONENT_BYTES_MAX: usize = 255;
/// Longest relative path in bytes, `PATH_MAX` on Linux.
pub const PATH_BYTES_MAX: usize = 4096;
/// Deepest nesting of a path.
pub const PATH_DEPTH_MAX: usize = 64;

/// Longest target of a symbolic link in bytes, `PATH_MAX` on Linux.
pub const LINK_TARGET_BYTES_MAX: usize = 4096;
/// Most extended attributes of one entry.
pub const ATTRIBUTES_MAX: usize = 64;
/// Longest name of an extended attribute in bytes, `XATTR_NAME_MAX` on Linux.
pub const ATTRIBUTE_NAME_BYTES_MAX: usize = 255;
/// Most bytes of names and values of one entry's extended attributes: with them, an entry fits a page by itself.
pub const ATTRIBUTES_BYTES_MAX: usize = 32 * 1024;

/// Most entries of one listing.
pub const ENTRIES_MAX: u32 = 1_000_000;
/// Most bytes that a listing may have: those of its paths, of the targets of links, and of names and values of attributes,
/// and 32 for every entry and every attribute.
pub const LISTING_BYTES_MAX: u64 = 64 * MIB;
/// Most bytes of all files of one listing together: sums of valid lengths cannot overflow.
pub const TOTAL_BYTES_MAX: u64 = 1 << 62;

/// Longest body of a message frame.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Fill of a listing page at which its sender starts the next one. One entry alone always fits a frame, however long.
pub const LISTING_PAGE_BYTES: usize = 56 * 1024;
/// Most entries of one listing page.
pub const LISTING_PAGE_ENTRIES_MAX: usize = 4096;
/// Most chunk hashes of one page: 32 KiB of digests.
pub const HASH_PAGE_CHUNKS_MAX: u16 = 1024;
/// Most bytes of file data that a receiver lets one hash page cover, so that a page never takes long to hash.
pub const HASH_PAGE_DATA_BYTES: u64 = 64 * MIB;
/// Unverified file data that a receiver keeps hash pages for, ahead of the first missing chunk.
pub const HASH_AHEAD_BYTES: u64 = 256 * MIB;
/// Most chunk hashes that a receiver holds ahead of its data. Of small files no more than a sender can keep from their
/// hash until they are sent.
pub const HASH_AHEAD_CHUNKS: u64 = 2 * 1024;
/// Chunk hashes that a sender remembers for all of its receivers together: 8 MiB of memory, and all of a file of 64 GiB
/// or, in longer chunks, of 4 TiB.
pub const SHARED_DIGESTS_MAX: u64 = 256 * 1024;
/// Bytes that a file which is written to a stream may be ahead of what whoever reads the stream has taken.
pub const STREAM_AHEAD_BYTES: u64 = 256 * MIB;
/// Bytes of small files that a sender keeps from their hash until they are sent, so that each is read once.
pub const KEPT_BYTES_MAX: usize = 16 << 20;
/// Hash page requests under way at once.
pub const HASH_REQUESTS_MAX: usize = 4;

/// Mean length of the segments of an outline, in files of up to 4 GiB. Of 1 GiB in which some bytes came in at 200 random places,
/// in chunks of 256 KiB, 206 chunks had to be fetched with 16 KiB, 219 with 32, 247 with 64 and 312 with 128, by outlines of 0.107,
/// 0.053, 0.027 and 0.013 % of the file: from 64 to 32 KiB a byte of outline saves 25 of chunks, and below 12.
pub const SEGMENT_BYTES_MEAN: u64 = 32 * KIB;
/// Segments of mean length that an outline has at most; in longer files they double. Four times as many if all are as short
/// as they may be: 10 MiB of memory.
pub const OUTLINE_SEGMENTS: u64 = 1 << 17;
/// Longest file that is outlined: in longer ones a segment is not much shorter than a chunk.
pub const OUTLINE_FILE_BYTES_MAX: u64 = 1024 * 1024 * MIB;
/// Most segments of one page of an outline: 40 KiB.
pub const OUTLINE_PAGE_SEGMENTS_MAX: usize = 2048;
/// Bytes of file that one page of an outline covers, so that it never takes long to cut. One segment always fits.
pub const OUTLINE_PAGE_DATA_BYTES: u64 = 64 * MIB;
/// Chunks of a file that do not lie where they did in its older version are held back until so many bytes are missed, or eight
/// times as many compared; then either an outline is asked for, or they are fetched.
pub const OLDER_MISSED_BYTES: u64 = 16 * MIB;

/// Longest piece, the unit of data on the wire.
pub const PIECE_BYTES_MAX: u32 = 256 * 1024;
/// Shortest piece length that a receiver may ask for (the last piece of a chunk is as short as it is).
pub const PIECE_BYTES_MIN: u32 = 16 * 1024;
/// Time that one piece may take at the measured rate before its length is halved.
pub const PIECE_TIME: Duration = Duration::from_millis(50);

/// Most ranges in one request for chunks.
pub const REQUEST_RANGES_MAX: usize = 256;
/// Most chunks in one request.
pub const REQUEST_CHUNKS_MAX: u64 = 1024;
/// Most bytes in one request (a request of one chunk may be longer: it is that chunk).
pub const REQUEST_BYTES_MAX: u64 = MIB;
/// Chunks of which a receiver remembers how far they came before their lanes were lost; each may have a buffer of
/// [`CHUNK_BYTES_MIN`]. Lanes take them up first, so that there are seldom more than lanes.
pub const HELD_CHUNKS_MAX: usize = 2 * DATA_LANES_MAX as usize;
/// Most files that one request for the seal leaves out; a longer list takes several.
pub const SEAL_WITHOUT_MAX: usize = 12 * 1024;
/// Requests of one lane that the answering side queues; a further one is a protocol error.
pub const REQUESTS_QUEUED_MAX: usize = 64;
/// Requests of one lane that the asking side leaves unanswered. Half of what the other side takes: an answer may have
/// come whose end is not noted there.
pub const REQUESTS_PIPELINED_MAX: u64 = 32;
/// Least bytes that a lane keeps asked for.
pub const WINDOW_BYTES_MIN: u64 = MIB;
/// Most bytes that a lane keeps asked for, whatever its bandwidth and delay.
pub const WINDOW_BYTES_MAX: u64 = 32 * MIB;

/// Data lanes of one session.
pub const DATA_LANES_MAX: u16 = 16;
/// Lanes of one session that a host serves at a time: the most data lanes and one for control, twice, since a lane that
/// its receiver gave up may not be known to be gone.
pub const SESSION_LANES_MAX: usize = 2 * (DATA_LANES_MAX as usize + 1);
/// Sessions that one host serves at a time.
pub const SESSIONS_MAX: usize = 32;
/// Proven connections that a host refuses at a time; further ones are dropped without a word.
pub const REFUSED_AT_ONCE_MAX: usize = 64;
/// Connections that have not proved themselves, all together.
pub const UNPROVEN_CONNECTIONS_MAX: usize = 64;
/// Connections from one address, or one IPv6 network of 64 bits, that have not proved themselves.
pub const UNPROVEN_CONNECTIONS_PER_ADDRESS_MAX: usize = 8;
/// Guesses at one code that a host answers, and times that a joiner puts one code to a host.
pub const CODE_TRIES_MAX: u32 = 3;
/// Codes in a row that may be burnt by wrong guesses before a host shows none any more: 30 guesses at 31 bits.
pub const CODES_BURNT_MAX: u32 = 10;
/// How long a host takes to turn a wrong guess away.
pub const WRONG_CODE_WAIT: Duration = Duration::from_secs(1);
/// From accept(2) to the accepted proof, absolute.
pub const PROOF_DEADLINE: Duration = Duration::from_secs(10);
/// A lane that owes a frame and is silent for so long is dead.
pub const LANE_SILENCE_MAX: Duration = Duration::from_secs(8);
/// A data lane that owes pieces and is silent for so long gives its work to one that has none; where all lanes are, it
/// is time to try whether a new connection fares better.
pub const STALLED_AFTER: Duration = Duration::from_secs(2);
/// A control lane that owes nothing is asked for a sign of life after so long without one: a connection that broke
/// unnoticed would never be missed.
pub const CONTROL_PING_AFTER: Duration = Duration::from_secs(4);
/// Longest wait between two tries to open a lost lane again.
pub const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(10);
/// The answering side says so every time that an answer takes this long.
pub const WORKING_EVERY: Duration = Duration::from_secs(1);
/// A session without any lane is forgotten by the host after so long.
pub const SESSION_IDLE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Times that a chunk whose bytes do not have its hash is asked for again, over a new lane, before its file fails.
pub const CHUNK_RETRIES_MAX: u8 = 1;

/// Longest link text: two addresses worth of slack over the longest valid one.
pub const LINK_BYTES_MAX: usize = 256;
/// Hosts on the local network that a search remembers: anybody there can claim to be any number of them.
pub const FOUND_HOSTS_MAX: usize = 256;
/// Addresses of one such host.
pub const FOUND_ADDRESSES_MAX: usize = 8;
/// Most columns of a peer's name on a terminal.
pub const PEER_NAME_COLUMNS_MAX: usize = 64;

/// Longest head of a request of HTTP.
pub const WEB_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest header of a sealed call, and of its answer.
pub const WEB_HEADER_BYTES_MAX: usize = 256 * 1024;
/// Longest chunk that a page gets or sends: it is in memory as a whole, on both sides.
pub const WEB_CHUNK_BYTES_MAX: u64 = 4 * MIB;
/// Most bytes of one call for several chunks.
pub const WEB_RUN_BYTES_MAX: u64 = MIB;
/// Most digests of one call: 32 KiB of them.
pub const WEB_DIGESTS_MAX: u32 = 1024;
/// Most entries of one answer that lists.
pub const WEB_LIST_ENTRIES_MAX: usize = 512;
/// Calls of one page at a time.
pub const WEB_CALLS_MAX: usize = 6;
/// Calls that carry files at a time, all pages together: 64 MiB of memory at the most.
pub const WEB_HEAVY_CALLS_MAX: usize = 16;
/// Such calls from one address, or one IPv6 network of 64 bits: more than one page makes.
pub const WEB_HEAVY_CALLS_PER_ADDRESS_MAX: usize = 8;
/// How long a call for chunks waits for its turn, and for the limit of its rate, before its page is told to ask again.
pub const WEB_TURN_WAIT_MAX: Duration = Duration::from_secs(5);
/// Downloads of whole files by browsers at a time, all together.
pub const WEB_DOWNLOADS_MAX: usize = 32;
/// Such downloads of one page: as many as `aria2c` makes of one.
pub const WEB_DOWNLOADS_PER_PAGE_MAX: usize = 16;
/// Pages that a host remembers.
pub const WEB_PAGES_MAX: usize = 256;
/// Calls that a host remembers so that it carries none out twice: 4 MiB.
pub const WEB_NONCES_MAX: usize = 65_536;
/// Addresses of files that a browser downloads by itself, all pages together.
pub const WEB_CAPABILITIES_MAX: usize = 4096;
/// Such addresses of one page.
pub const WEB_CAPABILITIES_PER_PAGE_MAX: usize = 64;
/// How long such an address is good after its last use.
pub const WEB_CAPABILITY_IDLE_MAX: Duration = Duration::from_secs(3600);
/// Connections of browsers that know the room.
pub const WEB_CONNECTIONS_MAX: usize = 256;
/// Such connections from one address, or one IPv6 network of 64 bits.
pub const WEB_CONNECTIONS_PER_ADDRESS_MAX: usize = 32;
/// How long a browser's connection waits for its next request, for more of one, and for a browser to take an answer.
pub const WEB_SILENCE_MAX: Duration = Duration::from_secs(30);
/// How slowly a long call may come, after so long: what comes more slowly gives its room to others.
pub const WEB_CALL_BYTES_PER_SECOND_MIN: u64 = 16 * KIB;
/// A page that sends and says nothing for so long is gone; what came of its files is kept.
pub const WEB_GONE_AFTER: Duration = Duration::from_secs(30);
/// Most files of one call that offers.
pub const WEB_OFFER_FILES_MAX: usize = 512;
/// Most files of one batch that a page sends.
pub const WEB_BATCH_FILES_MAX: usize = 100_000;
/// Bytes of listings that pages have not said the last of yet, all pages together.
pub const WEB_DRAFTS_BYTES_MAX: u64 = 2 * LISTING_BYTES_MAX;
/// A page that says nothing for so long is away.
pub const WEB_AWAY_AFTER: Duration = Duration::from_secs(12);

/// Files of one chunk that are synced and published together.
pub const BATCH_FILES_MAX: usize = 4096;
/// Bytes of one such batch.
pub const BATCH_BYTES_MAX: u64 = 64 * MIB;
/// Written bytes between two background syncs of a partial file.
pub const BACKGROUND_SYNC_BYTES: u64 = 64 * MIB;
/// Complete files that wait for their publication before no further chunk is asked for.
pub const PUBLISH_QUEUE_MAX: usize = 2 * BATCH_FILES_MAX;
/// Partial files that a transfer keeps open.
pub const OPEN_PARTIALS_MAX: usize = 64;
/// Room that a destination keeps free beyond the transfer itself.
pub const FREE_SPACE_MARGIN_BYTES: u64 = 16 * MIB;

/// Bytes that the hash cache may hold on disk.
pub const HASH_CACHE_BYTES_MAX: u64 = 256 * MIB;
/// Longest record of what an unfinished transfer was.
pub const RECORD_BYTES_MAX: usize = 32 * 1024;
/// Bytes that the names of entries take in it; of more entries only the number is kept.
pub const RECORD_NAMES_BYTES_MAX: usize = 16 * 1024;
/// Addresses of a host in it.
pub const RECORD_ADDRESSES_MAX: usize = 16;
/// Longest manifest that is read from a pipe, which has to be held in memory: that of 2 TiB in the smallest chunks.
pub const PIPED_MANIFEST_BYTES_MAX: u64 = 256 * MIB;
/// Largest record, journal or state file that is read at all.
pub const STATE_FILE_BYTES_MAX: u64 = 64 * MIB;

/// One kibibyte.
pub const KIB: u64 = 1024;
/// One mebibyte.
pub const MIB: u64 = 1024 * KIB;

const _: () = {
    assert!(CHUNK_BYTES_MIN.is_power_of_two() && CHUNK_BYTES_COMFORT.is_power_of_two());
    assert!(CHUNK_BYTES_MIN < CHUNK_BYTES_COMFORT);
    assert!(CHUNKS_PER_FILE_COMFORT <= CHUNKS_PER_FILE_MAX);
    assert!(PIECE_BYTES_MAX as u64 <= CHUNK_BYTES_MIN);
    assert!(PIECE_BYTES_MIN < PIECE_BYTES_MAX && PIECE_BYTES_MIN.is_power_of_two());
    assert!(HASH_PAGE_CHUNKS_MAX as usize * 32 + 64 <= MESSAGE_BYTES_MAX);
    assert!(LISTING_PAGE_BYTES + 64 <= MESSAGE_BYTES_MAX);
    assert!(PATH_BYTES_MAX + LINK_TARGET_BYTES_MAX + 128 <= MESSAGE_BYTES_MAX);
    assert!(PATH_BYTES_MAX + ATTRIBUTES_BYTES_MAX + ATTRIBUTES_MAX * 5 + 128 <= MESSAGE_BYTES_MAX);
    assert!(ATTRIBUTE_NAME_BYTES_MAX < ATTRIBUTES_BYTES_MAX && ATTRIBUTES_MAX <= u8::MAX as usize);
    assert!(REQUEST_RANGES_MAX * 20 + 64 <= MESSAGE_BYTES_MAX);
    assert!(SEAL_WITHOUT_MAX * 5 + 64 <= MESSAGE_BYTES_MAX);
    assert!(WINDOW_BYTES_MIN <= WINDOW_BYTES_MAX && REQUEST_BYTES_MAX <= WINDOW_BYTES_MIN);
    assert!(HASH_PAGE_DATA_BYTES <= HASH_AHEAD_BYTES && HASH_PAGE_CHUNKS_MAX as u64 <= HASH_AHEAD_CHUNKS);
    assert!(STREAM_AHEAD_BYTES >= CHUNK_BYTES_COMFORT * DATA_LANES_MAX as u64);
    assert!(SHARED_DIGESTS_MAX >= 4 * SESSIONS_MAX as u64 * HASH_PAGE_CHUNKS_MAX as u64);
    assert!(SEGMENT_BYTES_MEAN.is_power_of_two() && SEGMENT_BYTES_MEAN * 2 <= CHUNK_BYTES_MIN);
    assert!(OUTLINE_FILE_BYTES_MAX / OUTLINE_SEGMENTS * 4 <= u32::MAX as u64);
    assert!(OUTLINE_PAGE_SEGMENTS_MAX * 21 + 64 <= MESSAGE_BYTES_MAX);
    assert!(COMPONENT_BYTES_MAX < PATH_BYTES_MAX);
    assert!(WEB_RUN_BYTES_MAX <= WEB_CHUNK_BYTES_MAX && WEB_RUN_BYTES_MAX >= CHUNK_BYTES_MIN);
    assert!(WEB_HEAVY_CALLS_MAX as u64 * WEB_CHUNK_BYTES_MAX <= 64 * MIB);
    assert!(WEB_CALLS_MAX <= WEB_HEAVY_CALLS_PER_ADDRESS_MAX && WEB_HEAVY_CALLS_PER_ADDRESS_MAX < WEB_HEAVY_CALLS_MAX);
    assert!(WEB_CONNECTIONS_PER_ADDRESS_MAX <= WEB_CONNECTIONS_MAX);
    assert!(REQUESTS_PIPELINED_MAX * 2 <= REQUESTS_QUEUED_MAX as u64 && HASH_REQUESTS_MAX * 2 <= REQUESTS_QUEUED_MAX);
    assert!(WORKING_EVERY.as_millis() * 4 <= LANE_SILENCE_MAX.as_millis());
    assert!(CONTROL_PING_AFTER.as_millis() < LANE_SILENCE_MAX.as_millis());
    assert!(
        STALLED_AFTER.as_millis() > WORKING_EVERY.as_millis()
            && STALLED_AFTER.as_millis() < LANE_SILENCE_MAX.as_millis()
    );
    assert!(
        RECORD_NAMES_BYTES_MAX + RECORD_ADDRESSES_MAX * 32 + LINK_BYTES_MAX + PATH_BYTES_MAX + 1024 <= RECORD_BYTES_MAX
    );
    assert!(FILE_BYTES_MAX <= TOTAL_BYTES_MAX && TOTAL_BYTES_MAX < u64::MAX / 2);
    assert!(UNPROVEN_CONNECTIONS_PER_ADDRESS_MAX <= UNPROVEN_CONNECTIONS_MAX);
};
