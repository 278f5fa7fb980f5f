//! What a connection begins with: its first byte, and the first message of a TLS handshake, which is read to learn which
//! protocol it asks for, and handed on as it is.

use super::TransportError;
use super::machine::HANDSHAKE_BUFFER_BYTES;
use rustls::server::{Acceptor, ClientHello};
use std::io::{self, Read};
use std::net::TcpStream;
use std::time::Instant;

/// What somebody said first, and whether they ask for a version of haul's own protocol.
pub(super) struct Greeting {
    pub(super) said: Vec<u8>,
    pub(super) asks_for_haul: bool,
}

/// The first byte that a peer sends, which tells what it speaks.
pub(super) fn first_byte(socket: &TcpStream, deadline: Instant) -> Result<u8, TransportError> {
    let mut byte = [0];
    wait_by(socket, deadline, |socket| socket.peek(&mut byte))?;
    Ok(byte[0])
}

/// Reads a greeting. One that breaks a rule is taken for one of haul's: whoever goes on with it finds the same, and says so
/// to the other end.
pub(super) fn read(socket: &TcpStream, deadline: Instant) -> Result<Greeting, TransportError> {
    let mut acceptor = Acceptor::default();
    let mut said = Vec::new();
    let asks_for_haul = loop {
        let mut part = [0; 4096];
        let room = part.len().min(HANDSHAKE_BUFFER_BYTES - said.len());
        if room == 0 {
            break true;
        }
        let read = wait_by(socket, deadline, |mut socket| socket.read(&mut part[..room]))?;
        said.extend_from_slice(&part[..read]);
        match hear(&mut acceptor, &part[..read]) {
            None => {}
            Some(asks_for_haul) => break asks_for_haul,
        }
    };
    Ok(Greeting { said, asks_for_haul })
}

/// Takes a part of a greeting. Once it is whole, says what it asks for.
fn hear(acceptor: &mut Acceptor, mut part: &[u8]) -> Option<bool> {
    while !part.is_empty() {
        if acceptor.read_tls(&mut part).is_err() {
            return Some(true);
        }
    }
    match acceptor.accept() {
        Ok(None) => None,
        Ok(Some(accepted)) => Some(asks_for_haul(&accepted.client_hello())),
        Err(_) => Some(true),
    }
}

fn asks_for_haul(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol.starts_with(ANY_VERSION)))
}

/// Has `take` look at what there is, waiting for it until `deadline` at the most, and returns how many bytes it took.
fn wait_by(
    socket: &TcpStream,
    deadline: Instant,
    mut take: impl FnMut(&TcpStream) -> io::Result<usize>,
) -> Result<usize, TransportError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(TransportError::ProofTimeout);
        }
        socket.set_read_timeout(Some(left)).map_err(|_| TransportError::Lost)?;
        match take(socket) {
            Ok(0) => return Err(TransportError::Closed),
            Ok(taken) => return Ok(taken),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {}
                _ => return Err(TransportError::Lost),
            },
        }
    }
}

/// How haul's protocol begins in ALPN, whatever its version.
const ANY_VERSION: &[u8] = b"haul/";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::DeviceKey;
    use rustls::ClientConnection;
    use rustls::pki_types::ServerName;
    use std::io::Write;
    use std::net::{Ipv4Addr, TcpListener};
    use std::sync::Arc;
    use std::time::Duration;

    /// The start of a handshake that asks for `protocols`.
    fn hello(protocols: &[&[u8]]) -> Vec<u8> {
        let config = DeviceKey::generate().unwrap().client_config(Arc::default());
        let mut config = Arc::unwrap_or_clone(config);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
        let mut bytes = Vec::new();
        ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_asked_for_decides_however_it_comes() {
        for (protocols, expected) in [
            (&[&b"haul/1"[..]][..], true),
            (&[b"haul/2"], true),
            (&[b"http/1.1", b"haul/1"], true),
            (&[b"http/1.1"], false),
            (&[b"h2"], false),
            (&[], false),
        ] {
            let bytes = hello(protocols);
            for part in [bytes.len(), 1000, 7] {
                let mut acceptor = Acceptor::default();
                let heard: Vec<_> = bytes.chunks(part).map(|part| hear(&mut acceptor, part)).collect();
                assert_eq!(heard.last().unwrap(), &Some(expected), "{protocols:?} in parts of {part}");
                assert!(heard[..heard.len() - 1].iter().all(Option::is_none), "it is decided once all of it is there");
            }
        }
    }

    #[test]
    fn what_breaks_a_rule_is_left_to_whoever_tells_so() {
        let mut bytes = hello(&[b"http/1.1"]);
        bytes[5] = 0xff;
        assert_eq!(hear(&mut Acceptor::default(), &bytes), Some(true));
    }

    #[test]
    fn one_that_has_no_end_is_neither_waited_for_nor_kept() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut joiner = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        joiner.write_all(&hello(&[b"http/1.1"])[..100]).unwrap();
        let soon = Instant::now() + Duration::from_millis(50);
        assert!(matches!(read(&socket, soon), Err(TransportError::ProofTimeout)));
        // A handshake message of 64 KiB, of which the records never end.
        joiner.write_all(&[0x16, 3, 1, 0x3f, 0xff, 1, 0, 0xff, 0xff]).unwrap();
        let writing = std::thread::spawn(move || joiner.write_all(&vec![0; 1 << 16]).map(|()| joiner));
        let greeting = read(&socket, Instant::now() + Duration::from_secs(60)).unwrap();
        assert!(greeting.asks_for_haul && greeting.said.len() <= HANDSHAKE_BUFFER_BYTES);
        drop(socket);
        let _ = writing.join().unwrap();
    }
}
