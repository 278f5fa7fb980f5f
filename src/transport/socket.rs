//! Options of the sockets below lanes.

use crate::limits;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Makes `socket` fit for a lane: no delay of small frames, and a dead path is noticed by the kernel too.
///
/// Buffer sizes stay with the kernel's own tuning: fixed ones measured no better on loopback, and worse above 1 MiB.
pub(super) fn prepare(connection: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(connection);
    socket.set_tcp_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if stays_on_this_machine(connection) {
        // A system whose default paces what it sends (BBR) sets a timer for every few segments. On a path without a
        // bottleneck to find that measured 0.3 ns of CPU for a byte, of 1.8. Without CUBIC the default stays.
        let _ = socket.set_tcp_congestion(b"cubic");
    }
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    #[cfg(not(target_os = "windows"))]
    let keepalive = keepalive.with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(limits::LANE_SILENCE_MAX))?;
    Ok(())
}

/// A socket that listens at `address`.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Elsewhere than on Unix the option lets another program take the port over.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Whether both ends are this machine: its loopback, or an address of its own that it dialled.
pub(super) fn stays_on_this_machine(connection: &TcpStream) -> bool {
    matches!((connection.local_addr(), connection.peer_addr()), (Ok(own), Ok(peer)) if own.ip() == peer.ip())
}

/// An address at which this machine reaches its own port.
#[cfg_attr(target_os = "linux", allow(dead_code))]
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// What stands for everybody who may be the same as `ip`: itself, or for IPv6 its network of 64 bits, in which a machine
/// takes as many addresses as it likes.
pub(crate) fn household(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip @ IpAddr::V4(_) => ip,
    }
}

/// Closes `socket` with a reset: nothing is kept in the kernel for a stranger.
pub(super) fn reset(socket: TcpStream) {
    // Without the option the close is an orderly one, which does no harm.
    let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
    drop(socket);
}

/// Connections that the kernel completes ahead of accept(2).
const BACKLOG: i32 = 128;
/// Idle time before the kernel asks whether the other end is still there.
const KEEPALIVE_IDLE: Duration = limits::LANE_SILENCE_MAX;
/// Time between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
/// Unanswered questions after which the connection is lost.
#[cfg(not(target_os = "windows"))]
const KEEPALIVE_RETRIES: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_household_is_one_ipv4_address_or_one_ipv6_network() {
        let household = |ip: &str| household(ip.parse().unwrap());
        assert_eq!(household("2001:db8:0:1:2:3:4:5"), household("2001:db8:0:1::"));
        assert_ne!(household("2001:db8:0:1::1"), household("2001:db8:0:2::1"));
        assert_ne!(household("192.0.2.1"), household("192.0.2.2"));
        assert_eq!(household("::ffff:192.0.2.1"), household("192.0.2.1"));
    }
}
