//! Where a host listens, and what its link names.

use super::front::Front;
use super::state::OfferState;
use super::{Event, Identity, SendSettings, TransferError, addresses};
use crate::secret::Link;
use crate::transport::{DeviceKey, Gatekeeper, Listener, TransportError};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

/// The port that is tried first, so that a firewall rule for it lasts.
const PORT_DEFAULT: u16 = 4285;

/// Where to listen, best first: the port of an earlier run is tried before any other, and both families of addresses
/// before IPv4 alone, which is all that some machines have.
fn sockets(bind: Option<SocketAddr>, kept: Option<u16>) -> Vec<SocketAddr> {
    let every = || vec![IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
    let ips = bind.map_or_else(every, |bind| vec![bind.ip()]);
    let ports: Vec<u16> = match bind.map(|bind| bind.port()) {
        Some(0) => kept.into_iter().chain([0]).collect(),
        Some(port) => vec![port],
        None => kept.into_iter().chain([PORT_DEFAULT, 0]).collect(),
    };
    ports.into_iter().flat_map(|port| ips.iter().map(move |&ip| SocketAddr::new(ip, port))).collect()
}

/// Where a run wants to be reached.
pub(super) struct Wanted {
    pub(super) bind: Option<SocketAddr>,
    pub(super) address: Option<IpAddr>,
    /// Whether browsers are served over TLS.
    pub(super) tls: bool,
}

impl Wanted {
    pub(super) fn of_offer(settings: &SendSettings) -> Self {
        Self { bind: settings.bind, address: settings.address, tls: settings.tls }
    }
}

/// Listens for `gatekeeper`, at the address that was chosen or the one that the run had before, and returns the link to it.
/// Where that cannot be kept for a later run, it is told.
pub(super) fn open_front(
    front: &Front,
    &Wanted { bind, address, tls }: &Wanted,
    gatekeeper: &Arc<dyn Gatekeeper>,
    tell: &dyn Fn(&Event),
) -> Result<(Listener, Link), TransferError> {
    let listener = open(&sockets(bind, front.state.port), gatekeeper)?;
    if let Err(error) = front.state.save(listener.address().port()) {
        tell(&Event::Notice { text: format!("the link cannot be kept for a later run: {error}") });
    }
    let link = link(listener.address(), address, &front.state)?;
    Ok((listener, if tls { link.over_tls() } else { link }))
}

/// What the run at `link` shows of itself over TLS, where it does.
pub(super) fn identity(link: &Link, state_dir: Option<&Path>) -> Option<Identity> {
    if !link.is_tls() {
        return None;
    }
    let mut addresses = addresses::own();
    addresses.extend(link.addresses().iter().map(SocketAddr::ip));
    addresses.sort_unstable();
    addresses.dedup();
    Some(Identity { state_dir: state_dir.map(Path::to_owned), addresses })
}

/// Listens at the first of `sockets` that is free.
fn open(sockets: &[SocketAddr], gatekeeper: &Arc<dyn Gatekeeper>) -> Result<Listener, TransferError> {
    let device = DeviceKey::generate().map_err(|error| TransferError::Network(error.into()))?;
    let mut fault = None;
    for &socket in sockets {
        match Listener::bind(socket, device.clone(), Arc::clone(gatekeeper)) {
            Ok(listener) => return Ok(listener),
            Err(error) => fault = Some(error),
        }
    }
    Err(TransferError::Network(fault.unwrap_or(TransportError::Closed).into()))
}

/// The link to a host that listens at `bound`, with the addresses at which somebody else may reach it.
fn link(bound: SocketAddr, chosen: Option<IpAddr>, state: &OfferState) -> Result<Link, TransferError> {
    let advertised = addresses::advertised(chosen, bound.ip());
    let advertised: Vec<_> = advertised.into_iter().map(|ip| SocketAddr::new(ip, bound.port())).collect();
    Link::new(&advertised, state.room, state.key.clone()).map_err(|fault| TransferError::BadLink(Box::new(fault)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::{Key, Room, SessionId, SessionSecret};
    use crate::transport::{Lane, LaneIntro, ListenerEvent};
    use std::io::Write;
    use std::net::TcpStream;
    use std::sync::{Mutex, mpsc};

    /// Tells of strangers, and knows nobody.
    struct Doorman(Mutex<mpsc::Sender<SocketAddr>>);

    impl Gatekeeper for Doorman {
        fn link_key(&self, _: Room) -> Option<Key> {
            None
        }

        fn session_secret(&self, _: SessionId) -> Option<SessionSecret> {
            None
        }

        fn admit(&self, _: Lane, _: LaneIntro) {}

        fn observe(&self, event: ListenerEvent) {
            if let ListenerEvent::NotHaul { peer } = event {
                self.0.lock().unwrap().send(peer).unwrap();
            }
        }
    }

    #[test]
    fn the_kept_port_comes_first_and_a_chosen_address_stands_alone() {
        let text = |bind: Option<&str>, kept| -> Vec<String> {
            let bind = bind.map(|bind| bind.parse().unwrap());
            sockets(bind, kept).iter().map(ToString::to_string).collect()
        };
        assert_eq!(text(None, Some(7))[..3], ["[::]:7", "0.0.0.0:7", "[::]:4285"]);
        assert_eq!(text(Some("127.0.0.1:0"), Some(7)), ["127.0.0.1:7", "127.0.0.1:0"]);
        assert_eq!(text(Some("[::1]:5"), Some(7)), ["[::1]:5"]);
    }

    #[test]
    fn a_listener_of_every_address_hears_both_families_and_names_peers_by_their_own() {
        let (told, strangers) = mpsc::channel();
        let gatekeeper: Arc<dyn Gatekeeper> = Arc::new(Doorman(Mutex::new(told)));
        let any = |socket: SocketAddr| SocketAddr::new(socket.ip(), 0);
        let everywhere: Vec<_> = sockets(None, None).into_iter().map(any).collect();
        let listener = open(&everywhere, &gatekeeper).unwrap();
        let port = listener.address().port();
        let mut ips: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into()];
        ips.extend(listener.address().is_ipv6().then_some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        for ip in ips {
            let mut stranger = TcpStream::connect((ip, port)).unwrap();
            stranger.write_all(b"GET / HTTP/1.1\r\n").unwrap();
            assert_eq!(strangers.recv().unwrap(), stranger.local_addr().unwrap());
        }
    }
}
