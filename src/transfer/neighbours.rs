//! Whether an address lies on a network that this machine is itself part of.

use if_addrs::{IfAddr, get_if_addrs};
use std::net::IpAddr;

/// Whether `ip` is a neighbour's: of a network that one of this machine's interfaces is in, and not this machine's own.
/// Nothing but a firewall or an empty chair keeps such an address silent.
pub(super) fn is_neighbour(ip: IpAddr) -> bool {
    let interfaces = get_if_addrs().unwrap_or_default();
    let networks = interfaces.iter().map(|interface| match &interface.addr {
        IfAddr::V4(v4) => (IpAddr::V4(v4.ip), v4.prefixlen),
        IfAddr::V6(v6) => (IpAddr::V6(v6.ip), v6.prefixlen),
    });
    is_within(ip, networks)
}

/// `networks` are this machine's own addresses with the lengths of their prefixes.
fn is_within(ip: IpAddr, networks: impl Iterator<Item = (IpAddr, u8)>) -> bool {
    let mut found = false;
    for (own, prefix) in networks {
        if own == ip {
            return false;
        }
        found |= !own.is_loopback() && shares_prefix(ip, own, prefix);
    }
    found
}

fn shares_prefix(one: IpAddr, other: IpAddr, prefix: u8) -> bool {
    let (difference, width) = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (u128::from(one.to_bits() ^ other.to_bits()), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits(), 128),
        _ => return false,
    };
    // A prefix of no bits is no network that one is part of.
    prefix > 0 && difference.checked_shr(width - u32::from(prefix).min(width)).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_shares_the_prefix_of_one_of_our_networks_and_is_not_us() {
        let own = [("127.0.0.1", 8), ("192.168.1.23", 24), ("10.0.0.5", 32), ("fd00::23", 64), ("0.0.0.0", 0)];
        let own: Vec<(IpAddr, u8)> = own.iter().map(|&(ip, prefix)| (ip.parse().unwrap(), prefix)).collect();
        let within = |ip: &str| is_within(ip.parse().unwrap(), own.iter().copied());
        for (ip, expected) in [
            ("192.168.1.99", true),
            ("192.168.1.23", false),
            ("192.168.2.99", false),
            ("10.0.0.6", false),
            ("127.0.0.2", false),
            ("fd00::99", true),
            ("fd00:0:0:1::99", false),
            ("8.8.8.8", false),
        ] {
            assert_eq!(within(ip), expected, "{ip}");
        }
    }
}
