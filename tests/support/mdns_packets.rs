//! Answers of mDNS made by hand: what an honest host sends, and what a liar may send instead.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses the part that it needs")]

use socket2::{Domain, Protocol, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr};

const SERVICE: &str = "_haul._tcp.local";
const CLASS_IN: u16 = 1;
const ALONE: u16 = 0x8000;

/// A claim to be a host.
#[derive(Clone)]
pub struct Claim {
    pub instance: String,
    /// Entries of the TXT record.
    pub text: Vec<Vec<u8>>,
    pub port: u16,
    pub address: Ipv4Addr,
}

impl Claim {
    /// What haul itself would say.
    pub fn honest(instance: &str, number: u16, address: [u8; 4]) -> Self {
        let text = vec![format!("n={number}").into_bytes()];
        Self { instance: instance.into(), text, port: 4285, address: address.into() }
    }

    /// The claim as one packet of four records.
    pub fn packet(&self) -> Vec<u8> {
        let (instance, host) = (format!("{}.{SERVICE}", self.instance), format!("{}-host.local", self.instance));
        let mut packet = vec![0, 0, 0x84, 0, 0, 0, 0, 4, 0, 0, 0, 0];
        record(&mut packet, SERVICE, 12, CLASS_IN, &name(&instance));
        let mut srv = vec![0, 0, 0, 0];
        srv.extend(self.port.to_be_bytes());
        srv.extend(name(&host));
        record(&mut packet, &instance, 33, CLASS_IN | ALONE, &srv);
        let mut text = Vec::new();
        for entry in &self.text {
            text.push(u8::try_from(entry.len()).unwrap());
            text.extend(entry);
        }
        record(&mut packet, &instance, 16, CLASS_IN | ALONE, &text);
        record(&mut packet, &host, 1, CLASS_IN | ALONE, &self.address.octets());
        packet
    }
}

/// A socket on this thread's network that sends to the group from `address`, as mDNS does.
pub fn speaker(address: Ipv4Addr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5353)).into()).unwrap();
    socket.set_multicast_if_v4(&address).unwrap();
    socket.set_multicast_ttl_v4(255).unwrap();
    socket
}

/// Sends one packet to everybody who listens to mDNS.
pub fn say(socket: &Socket, packet: &[u8]) {
    socket.send_to(packet, &SocketAddr::from(([224, 0, 0, 251], 5353)).into()).unwrap();
}

fn record(packet: &mut Vec<u8>, owner: &str, kind: u16, class: u16, data: &[u8]) {
    packet.extend(name(owner));
    packet.extend(kind.to_be_bytes());
    packet.extend(class.to_be_bytes());
    packet.extend(4500u32.to_be_bytes());
    packet.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    packet.extend(data);
}

fn name(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in text.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}
