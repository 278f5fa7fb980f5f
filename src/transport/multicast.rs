//! Whether multicast works on this machine, and if not, why: a packet is sent to the group of mDNS and has to come back.

use if_addrs::{Interface, get_if_addrs};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const PORT: u16 = 5353;
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// Time that a packet has to come back in. It does not leave this machine for that.
const WAIT: Duration = Duration::from_millis(300);
/// A question for hosts of haul: twelve bytes of header, the name, type PTR, class IN.
const QUESTION: &[u8] = b"\0\0\0\0\0\x01\0\0\0\0\0\0\x05_haul\x04_tcp\x05local\0\0\x0c\0\x01";

/// Why nobody on the network can hear this machine or be heard by it: a sentence without a full stop. `None` where
/// nothing speaks against it; the network itself may still carry no multicast.
///
/// Takes up to a third of a second.
pub(super) fn trouble() -> Option<String> {
    let mut ips: Vec<Interface> = get_if_addrs().unwrap_or_default();
    // A link-local IPv6 address is neither announced nor listed, so a network of those alone is none.
    let is_told = |ip| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    ips.retain(|interface| interface.is_oper_up() && !interface.is_loopback() && is_told(interface.ip()));
    if ips.is_empty() {
        return Some("this machine is on no network".into());
    }
    let mut fault = None;
    for v4 in [true, false] {
        let of_family: Vec<&Interface> = ips.iter().filter(|interface| interface.ip().is_ipv4() == v4).collect();
        if of_family.is_empty() {
            continue;
        }
        match comes_back(&of_family, v4) {
            Ok(true) => return None,
            Ok(false) => fault = fault.or(Some(Fault::Filtered)),
            Err(error) => fault = fault.or(Some(error)),
        }
    }
    fault.map(|fault| fault.text())
}

enum Fault {
    Bind(io::Error),
    Filtered,
    Send(io::Error),
}

impl Fault {
    fn text(&self) -> String {
        match self {
            Self::Bind(error) if error.kind() == io::ErrorKind::AddrInUse => {
                "a program on this machine keeps UDP port 5353, which local discovery needs, to itself".into()
            }
            Self::Bind(error) => format!("this machine does not take part in multicast: {error}"),
            Self::Filtered => "a firewall on this machine keeps local discovery (UDP port 5353) out".into(),
            Self::Send(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                "a firewall on this machine keeps local discovery (UDP port 5353) in".into()
            }
            Self::Send(error) => format!("this machine cannot send to its local network: {error}"),
        }
    }
}

/// Whether a packet sent to the group on one of `interfaces` reaches a member on this machine.
fn comes_back(interfaces: &[&Interface], v4: bool) -> Result<bool, Fault> {
    let socket = member(interfaces, v4).map_err(Fault::Bind)?;
    let (mut is_sent, mut fault) = (false, None);
    for interface in interfaces {
        match ask_on(&socket, interface) {
            Ok(()) => is_sent = true,
            Err(error) => fault = Some(error),
        }
    }
    if let (false, Some(error)) = (is_sent, fault) {
        return Err(Fault::Send(error));
    }
    let socket = UdpSocket::from(socket);
    let until = Instant::now() + WAIT;
    let own: Vec<IpAddr> = interfaces.iter().map(|interface| interface.ip()).collect();
    let mut packet = [0; 64];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        socket.set_read_timeout(Some(left)).map_err(Fault::Bind)?;
        // Others ask the same: only what this machine sent tells about this machine. A packet longer than the question
        // is cut off or, on some systems, an error; either way it is somebody else's.
        if let Ok((length, from)) = socket.recv_from(&mut packet)
            && own.contains(&from.ip())
            && packet.get(..length) == Some(QUESTION)
        {
            return Ok(true);
        }
    }
}

/// A socket that hears the group on `interfaces`; at least one of them takes part.
fn member(interfaces: &[&Interface], v4: bool) -> io::Result<Socket> {
    let (domain, any) = if v4 {
        (Domain::IPV4, IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    } else {
        (Domain::IPV6, IpAddr::V6(Ipv6Addr::UNSPECIFIED))
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    if !v4 {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SocketAddr::new(any, PORT).into())?;
    let mut joined = Err(io::ErrorKind::Unsupported.into());
    for interface in interfaces {
        let result = match interface.ip() {
            IpAddr::V4(ip) => socket.join_multicast_v4(&GROUP_V4, &ip),
            IpAddr::V6(_) => socket.join_multicast_v6(&GROUP_V6, interface.index.unwrap_or(0)),
        };
        // A second address of an interface that has joined is no fault.
        if result.is_ok() || joined.is_err() {
            joined = result;
        }
    }
    joined.map(|()| socket)
}

fn ask_on(socket: &Socket, interface: &Interface) -> io::Result<()> {
    let group = match interface.ip() {
        IpAddr::V4(ip) => {
            socket.set_multicast_if_v4(&ip)?;
            IpAddr::V4(GROUP_V4)
        }
        IpAddr::V6(_) => {
            socket.set_multicast_if_v6(interface.index.unwrap_or(0))?;
            IpAddr::V6(GROUP_V6)
        }
    };
    socket.send_to(QUESTION, &SocketAddr::new(group, PORT).into()).map(|_| ())
}
