//! Who may ask for anything: the room in the path, the address in `Host`, the page in `Origin`.

use crate::digest::equal_in_constant_time;
use crate::secret::{Link, Room};
use data_encoding::BASE32_NOPAD;
use hyper::HeaderMap;
use hyper::header::{HOST, HeaderName, ORIGIN};
use std::net::SocketAddr;

/// What names the host, and its room.
#[derive(Debug)]
pub(super) struct Access {
    room: Room,
    /// Where the link says that the host is.
    addresses: Vec<SocketAddr>,
    port: u16,
    /// How the origins of this host begin.
    scheme: &'static str,
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Trespass {
    /// It names another host: somebody's name was made to lead here.
    Host,
    /// Another page sent it.
    Origin,
}

impl Access {
    pub(super) fn new(link: &Link, bound: SocketAddr) -> Self {
        let scheme = if link.is_tls() { "https" } else { "http" };
        Self { room: link.room(), addresses: link.addresses().to_vec(), port: bound.port(), scheme }
    }

    /// Whether `text` is the room, in either case; in time that does not depend on where it differs.
    pub(super) fn is_room(&self, text: &str) -> bool {
        let mut given = [0; 32];
        let is_read = text.len() == ROOM_CHARS
            && BASE32_NOPAD.decode_mut(text.to_ascii_uppercase().as_bytes(), &mut given[..16]).is_ok();
        let mut wanted = [0; 32];
        wanted[..16].copy_from_slice(self.room.as_bytes());
        equal_in_constant_time(&given, &wanted) && is_read
    }

    /// Whether a request that came to `local` names this host, and comes from no other page.
    pub(super) fn check(&self, headers: &HeaderMap, local: SocketAddr) -> Result<(), Trespass> {
        let host = only(headers, &HOST).ok_or(Trespass::Host)?;
        if !self.is_here(host, local) {
            return Err(Trespass::Host);
        }
        if headers.contains_key(ORIGIN) && self.origin(headers, local).is_none() {
            return Err(Trespass::Origin);
        }
        Ok(())
    }

    /// The origin that a request says it comes from, where that is this host under any of its addresses.
    pub(super) fn origin<'a>(&self, headers: &'a HeaderMap, local: SocketAddr) -> Option<&'a str> {
        let origin = only(headers, &ORIGIN)?;
        let host = origin.strip_prefix(self.scheme)?.strip_prefix("://")?;
        self.is_here(host, local).then_some(origin)
    }

    /// Every origin that the link names.
    pub(super) fn origins(&self) -> Vec<String> {
        let scheme = self.scheme;
        self.addresses.iter().map(|address| format!("{scheme}://{address}")).collect()
    }

    /// Whether `host` is an address at which a connection to `local` reaches this port. A name never is, but for the one
    /// that every machine has for itself.
    fn is_here(&self, host: &str, local: SocketAddr) -> bool {
        if let Some(port) = host.strip_prefix("localhost:") {
            return local.ip().to_canonical().is_loopback() && port.parse() == Ok(self.port);
        }
        let Ok(address) = host.parse::<SocketAddr>() else { return false };
        let ip = address.ip().to_canonical();
        let is_named = self.addresses.iter().any(|named| (named.ip(), named.port()) == (ip, address.port()));
        is_named || ip == local.ip().to_canonical() && address.port() == self.port
    }
}

/// The value of a header that is there once, as text.
pub(super) fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

/// Characters of a room.
const ROOM_CHARS: usize = 26;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Key;
    use hyper::header::HeaderValue;

    const LOCAL: &str = "192.168.1.23:4285";

    fn access() -> Access {
        let addresses = [LOCAL.parse().unwrap(), "[fd00::7]:4285".parse().unwrap()];
        let link = Link::new(&addresses, Room::from_bytes([9; 16]), Key::from_bytes([7; 16])).unwrap();
        Access::new(&link, "0.0.0.0:4285".parse().unwrap())
    }

    fn check(local: &str, fields: &[(HeaderName, &str)]) -> Result<(), Trespass> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        access().check(&headers, local.parse().unwrap())
    }

    #[test]
    fn the_room_is_known_in_either_case_and_nothing_else_is() {
        let text = access().room.to_string();
        assert!(access().is_room(&text) && access().is_room(&text.to_lowercase()));
        let other = format!("{}A", &text[..25]);
        for wrong in ["", &text[1..], &other, &format!("{text}A"), "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}"] {
            assert!(!access().is_room(wrong), "{wrong}");
        }
        // What cannot be read is not taken for the room of zeros.
        let link = Link::new(&[LOCAL.parse().unwrap()], Room::from_bytes([0; 16]), Key::from_bytes([7; 16])).unwrap();
        assert!(!Access::new(&link, LOCAL.parse().unwrap()).is_room("nonsense"));
    }

    #[test]
    fn only_addresses_of_this_host_are_its_name() {
        for host in [LOCAL, "[fd00::7]:4285", "[::ffff:192.168.1.23]:4285"] {
            assert_eq!(check(LOCAL, &[(HOST, host)]), Ok(()), "{host}");
        }
        for host in ["evil.example:4285", "192.168.1.23", "192.168.1.23:80", "10.0.0.1:4285", "localhost:4285", "", "*"]
        {
            assert_eq!(check(LOCAL, &[(HOST, host)]), Err(Trespass::Host), "{host}");
        }
        assert_eq!(check("127.0.0.1:4285", &[(HOST, "localhost:4285")]), Ok(()));
        assert_eq!(check("127.0.0.1:4285", &[(HOST, "localhost:80")]), Err(Trespass::Host));
        assert_eq!(check(LOCAL, &[]), Err(Trespass::Host));
        assert_eq!(check(LOCAL, &[(HOST, LOCAL), (HOST, LOCAL)]), Err(Trespass::Host), "two of them");
    }

    #[test]
    fn other_pages_are_turned_away_and_the_hosts_own_are_not() {
        let from = |origin| check(LOCAL, &[(HOST, LOCAL), (ORIGIN, origin)]);
        assert_eq!(from("http://192.168.1.23:4285"), Ok(()));
        assert_eq!(from("http://[fd00::7]:4285"), Ok(()));
        for origin in [
            "null",
            "https://192.168.1.23:4285",
            "http://evil.example",
            "http://192.168.1.23:4286",
            "http://192.168.1.24:4285",
            "",
        ] {
            assert_eq!(from(origin), Err(Trespass::Origin), "{origin}");
        }
    }

    #[test]
    fn over_tls_the_hosts_own_pages_are_those_that_came_over_tls() {
        let link = Link::new(&[LOCAL.parse().unwrap()], Room::from_bytes([9; 16]), Key::from_bytes([7; 16])).unwrap();
        let access = Access::new(&link.over_tls(), "0.0.0.0:4285".parse().unwrap());
        let from = |origin: &'static str| {
            let fields = [(HOST, LOCAL), (ORIGIN, origin)].map(|(name, value)| (name, HeaderValue::from_static(value)));
            access.check(&fields.into_iter().collect(), LOCAL.parse().unwrap())
        };
        assert_eq!(from("https://192.168.1.23:4285"), Ok(()));
        assert_eq!(from("http://192.168.1.23:4285"), Err(Trespass::Origin));
        assert_eq!(access.origins(), ["https://192.168.1.23:4285"]);
    }
}
