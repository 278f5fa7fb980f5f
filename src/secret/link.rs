//! Links: where an offer is, which one it is, and the key that proves both ends, in one line of text.

use super::{KEY_BYTES, Key, Room};
use crate::limits;
use data_encoding::{BASE32_NOPAD, DecodeKind};
use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use zeroize::Zeroizing;

/// Most addresses of one link.
pub const LINK_ADDRESSES_MAX: usize = 8;

/// Where an offer can be reached, which one it is, and the key that proves both ends.
#[derive(Clone)]
pub struct Link {
    /// Whether browsers are served over TLS there; haul always is.
    is_tls: bool,
    addresses: Vec<SocketAddr>,
    room: Room,
    key: Key,
}

/// Why a text is not a link. No variant carries any of the text: it may hold the key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LinkFault {
    /// An address is not `IP:PORT`.
    #[error("an address of the link is not an IP address with a port")]
    AddressMalformed,
    /// An address that nobody can connect to: unspecified, multicast or broadcast.
    #[error("an address of the link is not one that can be connected to")]
    AddressUnusable,
    /// A host name stands where an IP address belongs.
    #[error("the link has a host name; a link has IP addresses only")]
    HostName,
    /// The key has a character outside base32.
    #[error("the key of the link (after #) has a character that no key has")]
    KeyCharacter,
    /// The key is too short or too long.
    #[error("the key of the link (after #) has the wrong length; was the link cut off?")]
    KeyLength,
    /// There is no key.
    #[error("the link has no key (the part after #); was it cut off?")]
    KeyMissing,
    /// The key's last character has bits that no key sets.
    #[error("the key of the link (after #) ends in a wrong character")]
    KeyTrailingBits,
    /// There is no address.
    #[error("the link has no address")]
    NoAddress,
    /// A port is 0.
    #[error("the link has port 0")]
    PortZero,
    /// The room has a character outside base32.
    #[error("the room of the link (before #) has a character that no room has")]
    RoomCharacter,
    /// The room is too short or too long.
    #[error("the room of the link (before #) has the wrong length")]
    RoomLength,
    /// There is no room.
    #[error("the link has no room (the part between / and #)")]
    RoomMissing,
    /// The room's last character has bits that no room sets.
    #[error("the room of the link (before #) ends in a wrong character")]
    RoomTrailingBits,
    /// The text begins with neither `HTTP://` nor `HTTPS://`.
    #[error("a link begins with HTTP:// or HTTPS://")]
    Scheme,
    /// The text is longer than any link.
    #[error("the text is longer than any link")]
    TooLong,
    /// The link has more addresses than one may have.
    #[error("the link has more than {LINK_ADDRESSES_MAX} addresses")]
    TooManyAddresses,
}

impl Link {
    /// A link to `room` with the first of `addresses`, as many as a link holds: further ones are only hints.
    pub fn new(addresses: &[SocketAddr], room: Room, key: Key) -> Result<Self, LinkFault> {
        let mut kept = Vec::new();
        // The separators, the room and the key; then every address with the comma or slash beside it.
        let mut length = SCHEME_TLS.len() + 2 * BASE32_CHARS + 1;
        for address in addresses.iter().map(without_scope).take(LINK_ADDRESSES_MAX) {
            check_address(&address)?;
            length += address.to_string().len() + 1;
            if length > limits::LINK_BYTES_MAX {
                break;
            }
            kept.push(address);
        }
        if kept.is_empty() {
            return Err(LinkFault::NoAddress);
        }
        Ok(Self { is_tls: false, addresses: kept, room, key })
    }

    /// The same link, where browsers are served over TLS.
    #[must_use]
    pub fn over_tls(self) -> Self {
        Self { is_tls: true, ..self }
    }

    /// The link that `text` writes, in either case and with white space around it.
    pub fn parse(text: &str) -> Result<Self, LinkFault> {
        // Before anything walks over it: the text may be a megabyte.
        let text = text.trim_ascii();
        if text.len() > limits::LINK_BYTES_MAX {
            return Err(LinkFault::TooLong);
        }
        let text = Zeroizing::new(text.to_ascii_uppercase());
        let plain = text.strip_prefix(SCHEME).map(|rest| (rest, false));
        let (rest, is_tls) = plain.or_else(|| Some((text.strip_prefix(SCHEME_TLS)?, true))).ok_or(LinkFault::Scheme)?;
        let (public, fragment) = rest.split_once('#').ok_or(LinkFault::KeyMissing)?;
        let (first, room) = public.split_once('/').ok_or(LinkFault::RoomMissing)?;
        let mut items = fragment.split(',');
        let key = items.next().unwrap_or_default();
        let mut addresses = vec![parse_address(first)?];
        for item in items {
            if addresses.len() == LINK_ADDRESSES_MAX {
                return Err(LinkFault::TooManyAddresses);
            }
            addresses.push(parse_address(item)?);
        }
        let room = Room::from_bytes(*decode(room, &ROOM_FAULTS)?);
        let key = Key::from_bytes(*decode(key, &KEY_FAULTS)?);
        Ok(Self { is_tls, addresses, room, key })
    }

    /// The link as text, upper-case so that its QR code is small. It holds the key.
    pub fn to_text(&self) -> Zeroizing<String> {
        // Room for all of it from the start: a string that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(limits::LINK_BYTES_MAX));
        text.push_str(if self.is_tls { SCHEME_TLS } else { SCHEME });
        for (turn, address) in self.addresses.iter().enumerate() {
            if turn > 0 {
                text.push(',');
            }
            push_address(&mut text, address);
            if turn == 0 {
                text.push('/');
                BASE32_NOPAD.encode_append(self.room.as_bytes(), &mut text);
                text.push('#');
                BASE32_NOPAD.encode_append(self.key.as_bytes(), &mut text);
            }
        }
        text
    }

    /// Whether browsers are served over TLS there.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Where to connect, best first. Never empty.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Which offer it is.
    pub fn room(&self) -> Room {
        self.room
    }

    /// What both ends prove.
    pub fn key(&self) -> &Key {
        &self.key
    }
}

impl std::str::FromStr for Link {
    type Err = LinkFault;

    fn from_str(text: &str) -> Result<Self, LinkFault> {
        Self::parse(text)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { is_tls, addresses, room, key } = self;
        let mut debug = formatter.debug_struct("Link");
        debug.field("is_tls", is_tls).field("addresses", addresses).field("room", room).field("key", key).finish()
    }
}

/// What each way of being no base32 is called for one half of a link.
struct Base32Faults {
    missing: LinkFault,
    length: LinkFault,
    character: LinkFault,
    trailing_bits: LinkFault,
}

fn decode(text: &str, faults: &Base32Faults) -> Result<Zeroizing<[u8; KEY_BYTES]>, LinkFault> {
    if text.is_empty() {
        return Err(faults.missing);
    }
    if text.len() != BASE32_CHARS {
        return Err(faults.length);
    }
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    match BASE32_NOPAD.decode_mut(text.as_bytes(), &mut *bytes) {
        Ok(_) => Ok(bytes),
        Err(partial) => Err(match partial.error.kind {
            DecodeKind::Length => faults.length,
            DecodeKind::Trailing => faults.trailing_bits,
            _ => faults.character,
        }),
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, LinkFault> {
    let Ok(address) = text.parse::<SocketAddr>() else {
        let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
        let is_name = !host.starts_with('[') && host.bytes().any(|byte| byte.is_ascii_alphabetic());
        let is_name = is_name && !host.contains(':');
        return Err(if is_name { LinkFault::HostName } else { LinkFault::AddressMalformed });
    };
    if address != without_scope(&address) {
        // A scope names an interface of the machine that wrote it, which means nothing here.
        return Err(LinkFault::AddressMalformed);
    }
    check_address(&address)?;
    Ok(address)
}

fn check_address(address: &SocketAddr) -> Result<(), LinkFault> {
    if address.port() == 0 {
        return Err(LinkFault::PortZero);
    }
    let ip = address.ip().to_canonical();
    if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(LinkFault::AddressUnusable);
    }
    Ok(())
}

fn without_scope(address: &SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

fn push_address(text: &mut String, address: &SocketAddr) {
    let start = text.len();
    // Writing to a string does not fail.
    let _ = write!(text, "{address}");
    text[start..].make_ascii_uppercase();
}

const SCHEME: &str = "HTTP://";
const SCHEME_TLS: &str = "HTTPS://";

/// Characters that 128 bits take in base32: 25 full ones and three bits of the last.
const BASE32_CHARS: usize = 26;

const ROOM_FAULTS: Base32Faults = Base32Faults {
    missing: LinkFault::RoomMissing,
    length: LinkFault::RoomLength,
    character: LinkFault::RoomCharacter,
    trailing_bits: LinkFault::RoomTrailingBits,
};

const KEY_FAULTS: Base32Faults = Base32Faults {
    missing: LinkFault::KeyMissing,
    length: LinkFault::KeyLength,
    character: LinkFault::KeyCharacter,
    trailing_bits: LinkFault::KeyTrailingBits,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SessionSecret;
    use proptest::prelude::*;

    const ROOM: &str = "AAAQEAYEAUDAOCAJBIFQYDIOB4";
    const KEY: &str = "74OR2HA3DIMRQFYWCUKBGEQRCA";

    fn address() -> impl Strategy<Value = SocketAddr> {
        (any::<IpAddr>(), 1u16..)
            .prop_map(|(ip, port)| SocketAddr::new(ip, port))
            .prop_filter("usable", |address| check_address(address).is_ok())
    }

    fn link() -> impl Strategy<Value = Link> {
        let addresses = prop::collection::vec(address(), 1..=LINK_ADDRESSES_MAX);
        (addresses, any::<[u8; 16]>(), any::<[u8; 16]>(), any::<bool>()).prop_map(|(addresses, room, key, is_tls)| {
            let link = Link::new(&addresses, Room::from_bytes(room), Key::from_bytes(key)).unwrap();
            if is_tls { link.over_tls() } else { link }
        })
    }

    fn fault(text: &str) -> LinkFault {
        Link::parse(text).map(|_| ()).unwrap_err()
    }

    proptest! {
        #[test]
        fn links_survive_their_text_in_any_case(link in link()) {
            let text = link.to_text();
            prop_assert!(text.len() <= limits::LINK_BYTES_MAX);
            prop_assert_eq!(text.as_str(), text.to_ascii_uppercase());
            for text in [text.to_string(), text.to_ascii_lowercase(), format!(" \t{}\r\n", *text)] {
                let back = Link::parse(&text).unwrap();
                prop_assert_eq!(back.is_tls(), link.is_tls());
                prop_assert_eq!(back.addresses(), link.addresses());
                prop_assert_eq!(back.room(), link.room());
                prop_assert_eq!(back.key().as_bytes(), link.key().as_bytes());
            }
        }

        #[test]
        fn damaged_links_end_in_a_fault_or_in_a_link_with_one_text(
            link in link(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<char>(), any::<bool>()), 1..8),
        ) {
            let mut chars: Vec<char> = link.to_text().chars().collect();
            for (at, char, insert) in damage {
                let at = at.index(chars.len());
                if insert { chars.insert(at, char) } else { chars[at] = char }
            }
            if let Ok(link) = Link::parse(&chars.into_iter().collect::<String>()) {
                let again = Link::parse(&link.to_text()).unwrap();
                prop_assert_eq!(again.to_text(), link.to_text());
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,300}") {
            let _ = Link::parse(&text);
        }
    }

    #[test]
    fn a_written_link_reads_as_documented() {
        let link = Link::parse(&format!("http://192.168.1.23:4285/{ROOM}#{KEY},[fe80::1]:9,10.0.0.1:80")).unwrap();
        let expected: Vec<SocketAddr> =
            ["192.168.1.23:4285", "[fe80::1]:9", "10.0.0.1:80"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(link.addresses(), expected);
        assert_eq!(*link.room().as_bytes(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(link.key().as_bytes()[..2], [255, 29]);
        let text = format!("HTTP://192.168.1.23:4285/{ROOM}#{KEY},[FE80::1]:9,10.0.0.1:80");
        assert_eq!(*link.to_text(), text);
    }

    #[test]
    fn a_link_over_tls_says_so_and_nothing_else_differs() {
        let text = format!("HTTPS://192.168.1.23:4285/{ROOM}#{KEY}");
        let link = Link::parse(&text.to_lowercase()).unwrap();
        assert!(link.is_tls() && *link.to_text() == text);
        assert!(!Link::parse(&text.replace("HTTPS", "HTTP")).unwrap().is_tls());
    }

    #[test]
    fn every_fault_has_its_own_variant() {
        let with = |address: &str, room: &str, key: &str| fault(&format!("HTTP://{address}/{room}#{key}"));
        let at = "1.2.3.4:5";
        assert_eq!(fault("FTP://1.2.3.4:5/"), LinkFault::Scheme);
        assert_eq!(fault("HTTPS://1.2.3.4:5/"), LinkFault::KeyMissing);
        assert_eq!(fault(""), LinkFault::Scheme);
        assert_eq!(fault(&"A".repeat(1 << 20)), LinkFault::TooLong);
        assert_eq!(fault(&format!("HTTP://{at}/{ROOM}")), LinkFault::KeyMissing);
        assert_eq!(fault(&format!("HTTP://{at}#{KEY}")), LinkFault::RoomMissing);
        assert_eq!(with(at, ROOM, ""), LinkFault::KeyMissing);
        assert_eq!(with(at, "", KEY), LinkFault::RoomMissing);
        assert_eq!(with(at, ROOM, &KEY[1..]), LinkFault::KeyLength);
        assert_eq!(with(at, ROOM, &format!("{KEY}A")), LinkFault::KeyLength);
        assert_eq!(with(at, &ROOM[1..], KEY), LinkFault::RoomLength);
        assert_eq!(with(at, ROOM, &KEY.replace('7', "1")), LinkFault::KeyCharacter);
        assert_eq!(with(at, &ROOM.replace('Q', "8"), KEY), LinkFault::RoomCharacter);
        assert_eq!(with(at, ROOM, &format!("{}B", &KEY[..25])), LinkFault::KeyTrailingBits);
        assert_eq!(with(at, &format!("{}5", &ROOM[..25]), KEY), LinkFault::RoomTrailingBits);
        assert_eq!(with("1.2.3.4:0", ROOM, KEY), LinkFault::PortZero);
        assert_eq!(with("example.org:80", ROOM, KEY), LinkFault::HostName);
        assert_eq!(with("localhost", ROOM, KEY), LinkFault::HostName);
        for malformed in ["", "1.2.3.4", "1.2.3.4:", "1.2.3.4:65536", "::1:80", "[::1]", "[fe80::1%2]:80", "1.2.3:80"] {
            assert_eq!(with(malformed, ROOM, KEY), LinkFault::AddressMalformed, "{malformed}");
        }
        for unusable in ["0.0.0.0:1", "[::]:1", "224.0.0.1:1", "[ff02::1]:1", "255.255.255.255:1", "[::ffff:0.0.0.0]:1"]
        {
            assert_eq!(with(unusable, ROOM, KEY), LinkFault::AddressUnusable, "{unusable}");
        }
        assert_eq!(with(at, ROOM, &format!("{KEY},")), LinkFault::AddressMalformed);
        let many = format!("{KEY}{}", ",1.2.3.4:5".repeat(8));
        assert_eq!(with(at, ROOM, &many), LinkFault::TooManyAddresses);
        assert_eq!(
            Link::new(&[], Room::from_bytes([0; 16]), Key::from_bytes([0; 16])).map(|_| ()),
            Err(LinkFault::NoAddress)
        );
    }

    #[test]
    fn eight_addresses_are_kept_as_far_as_the_text_holds_them() {
        let short = vec!["1.2.3.4:5".parse().unwrap(); 9];
        assert_eq!(
            Link::new(&short, Room::from_bytes([0; 16]), Key::from_bytes([0; 16])).unwrap().addresses().len(),
            8
        );
        let long = vec!["[1111:2222:3333:4444:5555:6666:7777:8888]:65535".parse().unwrap(); 8];
        let link = Link::new(&long, Room::from_bytes([0; 16]), Key::from_bytes([0; 16])).unwrap();
        assert_eq!(link.addresses().len(), 4);
        assert!(link.to_text().len() <= limits::LINK_BYTES_MAX);
    }

    #[test]
    fn no_debug_text_or_fault_shows_a_secret() {
        let link = Link::parse(&format!("HTTP://1.2.3.4:5/{ROOM}#{KEY}")).unwrap();
        let secret = SessionSecret::from_bytes([0xab; 32]);
        let shown = format!("{link:?} {:?} {secret:?}", link.key());
        for hidden in [KEY, "171", "ab", "0xff", "255", "[25"] {
            assert!(!shown.contains(hidden), "{shown}");
        }
        assert_eq!(shown.matches("[redacted]").count(), 3);
        let fault = fault(&format!("HTTP://1.2.3.4:5/{ROOM}#{}!", &KEY[..25]));
        assert!(!format!("{fault} {fault:?}").contains(&KEY[..8]));
    }
}
