//! Where a host listens, and what its link names.

use super::state::OfferState;
use super::{TransferError, addresses};
use crate::secret::Link;
use crate::transport::{DeviceKey, Gatekeeper, Listener, TransportError};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// The port that is tried first, so that a firewall rule for it lasts.
const PORT_DEFAULT: u16 = 4285;

/// Where to listen, best first: the port of an earlier run is tried before any other.
pub(super) fn sockets(bind: Option<SocketAddr>, kept: Option<u16>) -> Vec<SocketAddr> {
    let ip = bind.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |bind| bind.ip());
    let ports = match bind.map(|bind| bind.port()) {
        Some(0) => kept.into_iter().chain([0]).collect(),
        Some(port) => vec![port],
        None => kept.into_iter().chain([PORT_DEFAULT, 0]).collect(),
    };
    ports.into_iter().map(|port| SocketAddr::new(ip, port)).collect()
}

/// Listens at the first of `sockets` that is free.
pub(super) fn open(sockets: &[SocketAddr], gatekeeper: &Arc<dyn Gatekeeper>) -> Result<Listener, TransferError> {
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
pub(super) fn link(bound: SocketAddr, chosen: Option<IpAddr>, state: &OfferState) -> Result<Link, TransferError> {
    let advertised = addresses::advertised(chosen, bound.ip());
    let advertised: Vec<_> = advertised.into_iter().map(|ip| SocketAddr::new(ip, bound.port())).collect();
    Link::new(&advertised, state.room, state.key.clone()).map_err(|fault| TransferError::BadLink(Box::new(fault)))
}
