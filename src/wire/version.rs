//! Which version of the protocol this program speaks, and what each one changed.

/// Application protocol name that both ends negotiate in TLS.
pub const ALPN: &[u8] = b"haul/1";

/// The version that `Hello` and `Welcome` carry.
///
/// * 1: the first one.
pub const VERSION: u16 = 1;

/// The receiver takes pieces encoded as [`Zstd`](super::Encoding::Zstd).
pub const FEATURE_ZSTD: u32 = 1;

/// The sender answers [`OutlineRequest`](super::Message::OutlineRequest), and the receiver may send it.
pub const FEATURE_OUTLINES: u32 = 2;

/// The sender takes [`RateWanted`](super::Message::RateWanted), and the receiver may send it.
pub const FEATURE_RATES: u32 = 4;

/// Optional features that this program speaks, one bit each; both ends use what both have.
pub const FEATURES: u32 = FEATURE_ZSTD | FEATURE_OUTLINES | FEATURE_RATES;
