//! Which of this machine's addresses a link names, best first.

use if_addrs::{Interface, get_if_addrs};
use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// How the names of interfaces start that lead to this machine's own containers and virtual machines.
const INTERNAL: &[&str] = &[
    "br-",
    "bridge1",
    "cali",
    "cbr",
    "cni",
    "docker",
    "flannel",
    "incusbr",
    "kube",
    "lxc",
    "lxdbr",
    "podman",
    "vEthernet",
    "vboxnet",
    "veth",
    "virbr",
    "vmnet",
    "vnet",
];
/// How the names of interfaces start that lead into a private network over another one, beside those that say so.
const TUNNELS: &[&str] = &["ipsec", "nordlynx", "tailscale", "tap", "tun", "utun", "wg", "zt"];

/// An address of this machine and where it leads.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Candidate {
    ip: IpAddr,
    interface: String,
    is_tunnel: bool,
    is_wireless: bool,
}

/// How likely a peer reaches an address. The order is that of a link.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Rank {
    /// Of a home's or an office's network.
    Private,
    /// Of the internet; what lies between may not let anybody in, and no QR code carries it.
    Public,
    /// Reached over a tunnel, by whoever is at its other end.
    Tunnel,
    /// Given by a machine to itself, for want of any other.
    LinkLocal,
    /// Shared between a provider's customers, and reached by few.
    CarrierGrade,
}

/// The addresses of a listener bound to `bound` that a link names: the chosen one alone, the bound one alone, or where it
/// is bound to all, those that somebody else may reach, and that one the listener hears on.
pub(super) fn advertised(chosen: Option<IpAddr>, bound: IpAddr) -> Vec<IpAddr> {
    if let Some(address) = chosen {
        return vec![address];
    }
    if !bound.is_unspecified() {
        return vec![bound];
    }
    let routes: Vec<IpAddr> =
        [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)].into_iter().filter_map(route).collect();
    // A machine that does not tell its interfaces still tells its routes.
    let interfaces = get_if_addrs().unwrap_or_default();
    let of_routes =
        routes.iter().map(|&ip| Candidate { ip, interface: String::new(), is_tunnel: false, is_wireless: false });
    let candidates = interfaces.into_iter().filter(Interface::is_oper_up).map(Candidate::from).chain(of_routes);
    let mut ranked = ranked(candidates.collect(), &routes);
    ranked.retain(|ip| ip.is_ipv4() || bound.is_ipv6());
    if ranked.is_empty() {
        // Nobody else can reach a machine without a network; its own programs can.
        ranked.push(if bound.is_ipv6() { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() });
    }
    ranked
}

/// Every address of this machine that somebody may write into an address line, its own loopback's included.
pub(super) fn own() -> Vec<IpAddr> {
    // A machine that does not tell its interfaces has its loopback all the same.
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let needs_scope = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let interfaces = get_if_addrs().unwrap_or_default().into_iter().map(|interface| interface.ip());
    loopback.into_iter().chain(interfaces).filter(|ip| !needs_scope(ip)).collect()
}

/// Whether an address is one of the internet: none that a home, an office, a provider or a machine gives out for itself.
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => !(ip.is_private() || ip.is_link_local() || ip.is_loopback() || is_carrier_grade(ip)),
        IpAddr::V6(ip) => !(ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback()),
    }
}

/// The candidates that somebody else may reach, best first, each once. `routes` are those that default routes leave from.
///
/// Of one rank, those of the default routes come first, since the network is behind them; then those of a wireless
/// interface, since that is where phones are.
fn ranked(candidates: Vec<Candidate>, routes: &[IpAddr]) -> Vec<IpAddr> {
    let mut kept: Vec<(_, IpAddr)> = Vec::new();
    for candidate in candidates {
        let (ip, is_route) = (candidate.ip, routes.contains(&candidate.ip));
        if let Some(rank) = candidate.rank(is_route)
            && kept.iter().all(|&(_, other)| other != ip)
        {
            kept.push(((rank, Reverse(is_route), Reverse(candidate.is_wireless), Reverse(ip.is_ipv4())), ip));
        }
    }
    // Stable: what ranks alike stays in the order in which the system tells it.
    kept.sort_by_key(|&(rank, _)| rank);
    kept.into_iter().map(|(_, ip)| ip).collect()
}

impl Candidate {
    /// `None` where nobody else reaches it.
    fn rank(&self, is_route: bool) -> Option<Rank> {
        let starts = |names: &[&str]| names.iter().any(|name| self.interface.starts_with(name));
        let (is_private, is_link_local, is_shared) = match self.ip {
            IpAddr::V4(ip) => (ip.is_private(), ip.is_link_local(), is_carrier_grade(ip)),
            // Without the scope that only the other end can know, a link-local one leads nowhere.
            IpAddr::V6(ip) if ip.is_unicast_link_local() => return None,
            IpAddr::V6(ip) => (ip.is_unique_local(), false, false),
        };
        Some(match self.ip {
            ip if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() => return None,
            _ if is_shared => Rank::CarrierGrade,
            // All traffic may leave over a tunnel, and yet whoever is nearby does not come in by it.
            _ if self.is_tunnel || starts(TUNNELS) => Rank::Tunnel,
            _ if starts(INTERNAL) && !is_route => return None,
            _ if is_link_local => Rank::LinkLocal,
            _ if is_private => Rank::Private,
            _ => Rank::Public,
        })
    }
}

impl From<Interface> for Candidate {
    fn from(interface: Interface) -> Self {
        let is_wireless = is_wireless(&interface.name);
        Self { ip: interface.ip(), is_tunnel: interface.is_p2p(), is_wireless, interface: interface.name }
    }
}

/// Whether an interface is a wireless one.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_wireless(interface: &str) -> bool {
    let folder = std::path::Path::new("/sys/class/net").join(interface);
    ["wireless", "phy80211"].iter().any(|name| folder.join(name).exists())
}

/// Whether an interface is a wireless one, as far as its name tells.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_wireless(interface: &str) -> bool {
    ["wl", "Wi-Fi", "Wireless"].iter().any(|name| interface.starts_with(name))
}

/// Whether an address is of 100.64.0.0/10, which providers and overlay networks share out.
fn is_carrier_grade(ip: Ipv4Addr) -> bool {
    ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64
}

/// The address that the default route of a family leaves from.
fn route(unspecified: IpAddr) -> Option<IpAddr> {
    // An address that is set aside for documentation. Connecting a datagram socket sends nothing; it only chooses a route.
    let elsewhere: SocketAddr = if unspecified.is_ipv4() {
        (Ipv4Addr::new(192, 0, 2, 1), 9).into()
    } else {
        (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into()
    };
    let socket = UdpSocket::bind((unspecified, 0)).ok()?;
    socket.connect(elsewhere).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// The order of addresses on interfaces; `->` marks the one of a default route, `=` a point-to-point interface and `~`
    /// a wireless one.
    fn order(lines: &[&str]) -> Vec<String> {
        let mut routes = Vec::new();
        let mut candidates = Vec::new();
        for line in lines {
            let (interface, address) = line.split_once(' ').unwrap();
            let is_route = address.starts_with("->");
            let address = ip(address.trim_start_matches("->"));
            routes.extend(is_route.then_some(address));
            let is_tunnel = interface.starts_with('=');
            let is_wireless = interface.starts_with('~');
            let interface = interface.trim_start_matches(['=', '~']).to_owned();
            candidates.push(Candidate { ip: address, interface, is_tunnel, is_wireless });
        }
        ranked(candidates, &routes).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_a_peer_most_likely_reaches_comes_first() {
        let found = order(&[
            "lo 127.0.0.1",
            "lo ::1",
            "tailscale0 100.101.102.103",
            "docker0 172.17.0.1",
            "=tun0 10.8.0.2",
            "wg0 10.9.0.2",
            "eth1 203.0.113.9",
            "eth1 2001:db8::9",
            "eth2 169.254.7.7",
            "eth3 172.16.0.7",
            "~wlp2s0 192.168.1.23",
            "~wlp2s0 fe80::1",
            "~wlp2s0 fd00::23",
            "eth0 ->10.0.0.5",
            "eth0 ->2001:db8::5",
            "veth12ab 10.244.0.1",
            "br-0f12ab 172.18.0.1",
        ]);
        let expected = [
            "10.0.0.5",
            "192.168.1.23",
            "fd00::23",
            "172.16.0.7",
            "2001:db8::5",
            "203.0.113.9",
            "2001:db8::9",
            "10.8.0.2",
            "10.9.0.2",
            "169.254.7.7",
            "100.101.102.103",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_bridge_that_the_default_route_leaves_from_is_no_internal_one() {
        assert_eq!(order(&["br-lan ->192.168.1.2", "docker0 172.17.0.1"]), ["192.168.1.2"]);
    }

    #[test]
    fn a_tunnel_that_takes_all_traffic_does_not_hide_the_network_nearby() {
        assert_eq!(order(&["tun0 ->10.8.0.2", "~wlan0 192.168.1.23"]), ["192.168.1.23", "10.8.0.2"]);
        assert_eq!(order(&["=ppp0 ->203.0.113.9", "eth0 192.168.1.2"]), ["192.168.1.2", "203.0.113.9"]);
    }

    #[test]
    fn a_private_address_comes_before_a_public_one_that_the_default_route_leaves_from() {
        assert_eq!(order(&["eth0 ->203.0.113.9", "eth1 10.0.0.2"]), ["10.0.0.2", "203.0.113.9"]);
        assert_eq!(order(&["eth1 198.51.100.7", "eth0 ->203.0.113.9"]), ["203.0.113.9", "198.51.100.7"]);
    }

    #[test]
    fn public_is_what_no_network_gives_out_for_itself() {
        for public in ["203.0.113.9", "8.8.8.8", "100.128.0.1", "172.32.0.1", "2a00:1450::1", "::ffff:8.8.8.8"] {
            assert!(is_public(ip(public)), "{public}");
        }
        for local in ["10.1.2.3", "172.31.0.1", "192.168.0.1", "169.254.1.1", "100.64.0.1", "127.0.0.1"] {
            assert!(!is_public(ip(local)) && !is_public(ip(&format!("::ffff:{local}"))), "{local}");
        }
        for local in ["fd00::1", "fe80::1", "::1"] {
            assert!(!is_public(ip(local)), "{local}");
        }
    }

    #[test]
    fn carrier_grade_addresses_are_last_even_where_the_default_route_leaves_from_one() {
        assert_eq!(order(&["rmnet0 ->100.64.0.9", "wlan0 192.168.43.1"]), ["192.168.43.1", "100.64.0.9"]);
        assert_eq!(order(&["eth0 100.128.0.1", "eth1 100.127.255.255"]), ["100.128.0.1", "100.127.255.255"]);
    }

    #[test]
    fn each_address_is_named_once_and_equals_keep_their_order() {
        assert_eq!(
            order(&["eth0 ->10.0.0.2", "eth1 10.0.0.9", "eth2 10.0.0.4", " 10.0.0.2"]),
            ["10.0.0.2", "10.0.0.9", "10.0.0.4"]
        );
    }

    #[test]
    fn a_chosen_or_bound_address_stands_alone() {
        let (one, all) = (ip("192.0.2.7"), ip("0.0.0.0"));
        assert_eq!(advertised(Some(one), all), [one]);
        assert_eq!(advertised(Some(one), ip("127.0.0.1")), [one]);
        assert_eq!(advertised(None, ip("127.0.0.1")), [ip("127.0.0.1")]);
        assert_eq!(advertised(None, one), [one]);
    }

    #[test]
    fn a_listener_of_one_family_names_no_address_of_the_other() {
        let found = advertised(None, ip("0.0.0.0"));
        assert!(!found.is_empty() && found.iter().all(IpAddr::is_ipv4), "{found:?}");
    }
}
