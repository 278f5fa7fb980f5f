//! A host as a user names it: `HOST:PORT`, where HOST is a name or an address.

use crate::cli::exit::Exit;
use crate::cli::report::Failure;
use haul::printable::printable;
use std::net::{SocketAddr, ToSocketAddrs};

/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// The addresses that `text` names, best first; a name is looked up.
pub(crate) fn resolve(text: &str) -> Result<Vec<SocketAddr>, Failure> {
    let shown = printable(text);
    let next = "write it as HOST:PORT, as in laptop.local:4285, 192.168.1.23:4285 or [fd00::23]:4285";
    let usage = |what: String| Failure::new(Exit::Usage, &what).next(next);
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(usage(format!("`{shown}` has no port")));
    };
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_whole_address = host.contains(':') && !host.starts_with('[');
    if is_whole_address || !is_number || host.is_empty() {
        return Err(usage(format!("`{shown}` is not a host with a port")));
    }
    let Some(port) = port.parse::<u16>().ok().filter(|&port| port > 0) else {
        return Err(usage(format!("the port of `{shown}` is out of range; a port is from 1 to 65535")));
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let found = (bare, port).to_socket_addrs();
    let unknown = || {
        let what = format!("the name `{}` is not known here", printable(host));
        Failure::new(Exit::Network, &what).next("check how it is spelt, or use the IP address of that machine")
    };
    let found: Vec<_> = found.map_err(|error| unknown().because(error.to_string()))?.take(ADDRESSES_MAX).collect();
    if found.is_empty() { Err(unknown()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_taken_with_their_port() {
        assert_eq!(resolve("192.0.2.1:4285").unwrap(), ["192.0.2.1:4285".parse().unwrap()]);
        assert_eq!(resolve("[2001:db8::1]:1").unwrap(), ["[2001:db8::1]:1".parse().unwrap()]);
        let local = resolve("localhost:65535").unwrap();
        assert!(local.iter().all(|address| address.ip().is_loopback() && address.port() == 65535), "{local:?}");
    }

    #[test]
    fn what_is_wrong_with_a_host_is_said() {
        for (text, what) in [
            ("laptop", "`laptop` has no port"),
            ("", "`` has no port"),
            (":4285", "`:4285` is not a host with a port"),
            ("laptop:", "`laptop:` is not a host with a port"),
            ("laptop:http", "`laptop:http` is not a host with a port"),
            ("fd00::23", "`fd00::23` is not a host with a port"),
            ("laptop:0", "the port of `laptop:0` is out of range; a port is from 1 to 65535"),
            ("laptop:65536", "the port of `laptop:65536` is out of range; a port is from 1 to 65535"),
            ("laptop:99999999999", "the port of `laptop:99999999999` is out of range; a port is from 1 to 65535"),
        ] {
            let failure = resolve(text).unwrap_err();
            assert_eq!((failure.exit, failure.what.as_str()), (Exit::Usage, what));
        }
        // Set aside so that no network knows it.
        let failure = resolve("no-such-host.invalid:4285").unwrap_err();
        assert_eq!(failure.exit, Exit::Network);
        assert_eq!(failure.what, "the name `no-such-host.invalid` is not known here");
    }
}
