//! The TLS machine of one connection: bytes in, bytes out, no socket.

use super::device_key::DeviceKey;
use super::exporter::ExporterTap;
use super::proof::{Binding, EXPORTER_LABELS};
use super::{ALPN, TransportError};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{AlertDescription, CommonState};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// TLS state with the buffers on both of its sides.
pub(super) struct Machine {
    connection: Connection,
    tap: Arc<ExporterTap>,
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    pub(super) plain: Plain,
}

enum Connection {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// Received TLS bytes that are not decrypted yet, at `head..end` of `buffer`.
pub(super) struct Incoming {
    pub(super) buffer: Vec<u8>,
    /// How long the buffer may become.
    bytes_max: usize,
    pub(super) head: usize,
    pub(super) end: usize,
}

/// Encrypted bytes that are not written yet, at the front of `buffer`.
pub(super) struct Outgoing {
    pub(super) buffer: Vec<u8>,
    /// How long the buffer may become.
    bytes_max: usize,
    pub(super) filled: usize,
}

/// Decrypted bytes that nobody has asked for yet: the rest of a record, or what came while this end was sending.
#[derive(Default)]
pub(super) struct Plain {
    bytes: Vec<u8>,
    read: usize,
}

/// What a step of the TLS machine is for.
pub(super) enum Task<'a> {
    CloseNotify,
    Encrypt(&'a [u8]),
    Receive(&'a mut [u8]),
}

/// How a step of the TLS machine ended.
pub(super) enum Step {
    /// All received bytes are processed; nothing further comes without a read.
    Blocked,
    /// The task that sends is done: its bytes are in the send buffer.
    Done,
    /// The send buffer has no room for the task, or holds bytes that must go first.
    Flush,
    /// TLS did something of its own.
    Moved,
    /// The other end has announced that it sends nothing more.
    PeerClosed,
    /// A record was decrypted; so many of its bytes went to where the task wants them.
    Received(usize),
}

impl Machine {
    /// The end that connected.
    pub(super) fn joiner(device: &DeviceKey) -> Result<Self, TransportError> {
        let tap = Arc::new(ExporterTap::default());
        // Never sent: SNI is off, and a raw key has no name in it.
        let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
        let connection = UnbufferedClientConnection::new(device.client_config(Arc::clone(&tap)), name);
        Ok(Self::new(Connection::Client(connection.map_err(TransportError::Tls)?), tap))
    }

    /// The end that accepted.
    pub(super) fn host(device: &DeviceKey) -> Result<Self, TransportError> {
        let tap = Arc::new(ExporterTap::default());
        let connection = UnbufferedServerConnection::new(device.server_config(Arc::clone(&tap)));
        Ok(Self::new(Connection::Server(connection.map_err(TransportError::Tls)?), tap))
    }

    /// Whether the handshake is still under way.
    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.state().is_handshaking()
    }

    /// Whether both ends named the same protocol.
    pub(super) fn speaks_haul(&self) -> bool {
        self.connection.state().alpn_protocol() == Some(ALPN)
    }

    /// What ties a proof to this connection. There is one: the exporter's secret is wiped.
    pub(super) fn binding(&self, own_spki: &[u8]) -> Result<Binding, TransportError> {
        let broken = || TransportError::Tls(rustls::Error::HandshakeNotComplete);
        let state = self.connection.state();
        let suite = state.negotiated_cipher_suite().and_then(|suite| suite.tls13()).ok_or_else(broken)?;
        let [exporter, channel] = self.tap.export(suite, EXPORTER_LABELS).ok_or_else(broken)?;
        let [peer_spki] = state.peer_certificates().unwrap_or_default() else { return Err(broken()) };
        let (own_spki, peer_spki) = (own_spki.to_vec(), peer_spki.to_vec());
        let (joiner_spki, host_spki) = match self.connection {
            Connection::Client(_) => (own_spki, peer_spki),
            Connection::Server(_) => (peer_spki, own_spki),
        };
        Ok(Binding { exporter, channel, joiner_spki, host_spki })
    }

    /// Allows the buffers of a lane in place of those of a handshake. They grow to that as data fills them: a lane carries
    /// most of its bytes one way, and many carry few.
    pub(super) fn grow(&mut self) {
        self.incoming.bytes_max = RECEIVE_BYTES;
        self.outgoing.bytes_max = SEND_BYTES;
    }

    /// Processes what was received, up to the next event.
    pub(super) fn step(&mut self, task: &mut Task<'_>) -> Result<Step, rustls::Error> {
        let Self { connection, incoming, outgoing, plain, .. } = self;
        let unread = &mut incoming.buffer[incoming.head..incoming.end];
        let (discard, step) = match connection {
            Connection::Client(client) => advance(client.process_tls_records(unread), task, outgoing, plain),
            Connection::Server(server) => advance(server.process_tls_records(unread), task, outgoing, plain),
        };
        incoming.head += discard;
        step
    }

    fn new(connection: Connection, tap: Arc<ExporterTap>) -> Self {
        Self {
            connection,
            tap,
            incoming: Incoming {
                buffer: vec![0; HANDSHAKE_BUFFER_BYTES],
                bytes_max: HANDSHAKE_BUFFER_BYTES,
                head: 0,
                end: 0,
            },
            outgoing: Outgoing {
                buffer: vec![0; HANDSHAKE_BUFFER_BYTES],
                bytes_max: HANDSHAKE_BUFFER_BYTES,
                filled: 0,
            },
            plain: Plain::default(),
        }
    }
}

impl Connection {
    fn state(&self) -> &CommonState {
        match self {
            Self::Client(client) => client,
            Self::Server(server) => server,
        }
    }
}

impl Incoming {
    /// Moves the unread rest, at most a part of one record, to the front.
    pub(super) fn make_room(&mut self) {
        if self.head > 0 {
            self.buffer.copy_within(self.head..self.end, 0);
            self.end -= self.head;
            self.head = 0;
        }
    }

    /// Takes bytes that were read before.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        let end = self.end + bytes.len();
        if end > self.buffer.len() {
            self.buffer.resize(end, 0);
        }
        self.buffer[self.end..end].copy_from_slice(bytes);
        self.end = end;
    }

    /// Takes note of bytes that were read behind those that are there. Where they fill the buffer, the next read may be a
    /// longer one.
    pub(super) fn received(&mut self, bytes: usize) {
        self.end += bytes;
        if self.end == self.buffer.len() && self.buffer.len() < self.bytes_max {
            self.buffer.resize((2 * self.buffer.len()).min(self.bytes_max), 0);
        }
    }
}

impl Plain {
    pub(super) fn is_empty(&self) -> bool {
        self.read == self.bytes.len()
    }

    /// Moves as many bytes as there are to the front of `into`.
    pub(super) fn take(&mut self, into: &mut [u8]) -> usize {
        let unread = &self.bytes[self.read..];
        let taken = unread.len().min(into.len());
        into[..taken].copy_from_slice(&unread[..taken]);
        self.read += taken;
        if self.is_empty() {
            self.bytes.clear();
            self.read = 0;
        }
        taken
    }
}

/// One step of the TLS machine: what it wants is done, and how many received bytes are used up.
fn advance<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    task: &mut Task<'_>,
    outgoing: &mut Outgoing,
    plain: &mut Plain,
) -> (usize, Result<Step, rustls::Error>) {
    let UnbufferedStatus { mut discard, state, .. } = status;
    let step = match state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            let mut received = 0;
            while let Some(record) = traffic.next_record() {
                let Ok(record) = record else { return (discard, Err(rustls::Error::DecryptError)) };
                discard += record.discard;
                received += deliver(record.payload, task, received, plain);
            }
            Ok(Step::Received(received))
        }
        Ok(ConnectionState::EncodeTlsData(mut data)) => loop {
            match data.encode(&mut outgoing.buffer[outgoing.filled..]) {
                Ok(bytes) => {
                    outgoing.filled += bytes;
                    break Ok(Step::Moved);
                }
                Err(EncodeError::InsufficientSize(size)) => {
                    outgoing.buffer.resize(outgoing.filled + size.required_size, 0);
                }
                Err(EncodeError::AlreadyEncoded) => break Ok(Step::Moved),
            }
        },
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Step::Flush)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Step::Blocked),
        Ok(ConnectionState::WriteTraffic(traffic)) => write(traffic, task, outgoing),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Step::PeerClosed),
        // Early data is off at both ends.
        Ok(_) => Err(rustls::Error::General("an event that neither end enables".into())),
    };
    (discard, step)
}

/// Copies a record to where the task wants it, what does not fit there to `plain`; returns the length of the former.
fn deliver(payload: &[u8], task: &mut Task<'_>, at: usize, plain: &mut Plain) -> usize {
    let wanted: &mut [u8] = match task {
        Task::Receive(into) => &mut into[at..],
        Task::CloseNotify | Task::Encrypt(_) => &mut [],
    };
    let fits = payload.len().min(wanted.len());
    wanted[..fits].copy_from_slice(&payload[..fits]);
    plain.bytes.extend_from_slice(&payload[fits..]);
    fits
}

fn write<Data>(
    mut traffic: WriteTraffic<'_, Data>,
    task: &Task<'_>,
    outgoing: &mut Outgoing,
) -> Result<Step, rustls::Error> {
    let space = &mut outgoing.buffer[outgoing.filled..];
    let encrypted = match task {
        Task::CloseNotify => traffic.queue_close_notify(space),
        Task::Encrypt(bytes) => traffic.encrypt(bytes, space),
        Task::Receive(_) => return Ok(Step::Blocked),
    };
    match encrypted {
        Ok(bytes) => {
            outgoing.filled += bytes;
            Ok(Step::Done)
        }
        Err(EncryptError::InsufficientSize(size)) => {
            let length = outgoing.buffer.len();
            if length < outgoing.bytes_max {
                outgoing.buffer.resize((2 * length).min(outgoing.bytes_max), 0);
                return Ok(Step::Moved);
            }
            if outgoing.filled == 0 {
                outgoing.buffer.resize(size.required_size, 0);
            }
            Ok(Step::Flush)
        }
        Err(EncryptError::EncryptExhausted) => Err(rustls::Error::EncryptError),
    }
}

/// What a failure of the TLS machine says about the other end.
pub(super) fn tls_fault(error: rustls::Error, handshaking: bool) -> TransportError {
    match error {
        rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol | AlertDescription::ProtocolVersion)
        | rustls::Error::NoApplicationProtocol => TransportError::VersionMismatch,
        rustls::Error::InvalidMessage(_) | rustls::Error::PeerIncompatible(_) | rustls::Error::AlertReceived(_)
            if handshaking =>
        {
            TransportError::PeerNotHaul
        }
        error => TransportError::Tls(error),
    }
}

/// Most plaintext of one TLS record.
pub(super) const RECORD_BYTES_MAX: usize = 16 * 1024;
/// More than TLS adds to one record: header, content type and tag.
const RECORD_OVERHEAD_BYTES: usize = 64;
/// A part this long is encrypted from where it lies.
pub(super) const GATHERED_PART_BYTES_MAX: usize = 4096;
/// Until the proof, a connection holds no more than one record each way.
pub(super) const HANDSHAKE_BUFFER_BYTES: usize = RECORD_BYTES_MAX + 2048;
/// A quarter of this costs 10 % more per byte on loopback, half of it 4 %.
const RECEIVE_BYTES: usize = 512 * 1024;
/// Half a piece with a record for its header: larger ones leave the cache before they are written.
const SEND_BYTES: usize = 9 * (RECORD_BYTES_MAX + RECORD_OVERHEAD_BYTES);

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::ClientConnection;
    use std::io::{Read, Write};

    /// A buffered connection of rustls, which is a second implementation of everything that the machine does.
    struct Peer(ClientConnection);

    impl Peer {
        fn new() -> Self {
            let config = DeviceKey::generate().unwrap().client_config(Arc::default());
            Self(ClientConnection::new(config, ServerName::IpAddress(Ipv4Addr::LOCALHOST.into())).unwrap())
        }

        /// Carries bytes both ways until neither end has any; returns what the machine decrypted.
        fn exchange(&mut self, machine: &mut Machine, task: &mut Task<'_>) -> Result<Vec<u8>, rustls::Error> {
            let mut received = Vec::new();
            loop {
                let mut wire = Vec::new();
                while self.0.wants_write() {
                    self.0.write_tls(&mut wire).unwrap();
                }
                feed(machine, &wire);
                let step = machine.step(task)?;
                received.append(&mut machine.plain.bytes);
                let filled = std::mem::take(&mut machine.outgoing.filled);
                let mut answer = &machine.outgoing.buffer[..filled];
                while !answer.is_empty() {
                    self.0.read_tls(&mut answer).unwrap();
                    self.0.process_new_packets().unwrap();
                }
                if matches!(step, Step::Blocked | Step::Done | Step::PeerClosed) && !self.0.wants_write() {
                    return Ok(received);
                }
            }
        }

        fn read(&mut self) -> Vec<u8> {
            let mut bytes = vec![0; 1 << 16];
            let read = self.0.reader().read(&mut bytes).unwrap();
            bytes.truncate(read);
            bytes
        }
    }

    fn feed(machine: &mut Machine, wire: &[u8]) {
        let incoming = &mut machine.incoming;
        incoming.make_room();
        incoming.buffer[incoming.end..incoming.end + wire.len()].copy_from_slice(wire);
        incoming.end += wire.len();
    }

    fn connected() -> (Peer, Machine, DeviceKey) {
        let device = DeviceKey::generate().unwrap();
        let (mut peer, mut machine) = (Peer::new(), Machine::host(&device).unwrap());
        peer.exchange(&mut machine, &mut Task::Receive(&mut [])).unwrap();
        assert!(!machine.is_handshaking() && !peer.0.is_handshaking() && machine.speaks_haul());
        (peer, machine, device)
    }

    #[test]
    fn the_exporter_is_the_one_that_rustls_computes() {
        let (peer, machine, device) = connected();
        let binding = machine.binding(device.spki()).unwrap();
        let theirs = EXPORTER_LABELS.map(|label| peer.0.export_keying_material([0; 32], label, None).unwrap());
        assert_eq!([*binding.exporter, *binding.channel], theirs);
        // RFC 9266 asks for an empty context, which is the same as none.
        let channel = peer.0.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"")).unwrap();
        assert_eq!(*binding.channel, channel);
        assert_eq!(binding.host_spki, peer.0.peer_certificates().unwrap()[0].as_ref());
        assert!(machine.binding(device.spki()).is_err(), "the secret is wiped after its one use");
    }

    #[test]
    fn data_passes_before_and_after_key_updates_of_either_end() {
        let (mut peer, mut machine, _) = connected();
        for round in 0..3u8 {
            peer.0.writer().write_all(&[round; 1000]).unwrap();
            assert_eq!(peer.exchange(&mut machine, &mut Task::Receive(&mut [])).unwrap(), [round; 1000]);
            peer.exchange(&mut machine, &mut Task::Encrypt(&[round; 50])).unwrap();
            assert_eq!(peer.read(), [round; 50]);
            // A request: the machine answers it with an update of its own keys.
            peer.0.refresh_traffic_keys().unwrap();
        }
    }

    #[test]
    fn buffers_grow_as_data_fills_them_and_no_further() {
        let (mut peer, mut machine, _) = connected();
        machine.grow();
        peer.exchange(&mut machine, &mut Task::Encrypt(&[1; 1000])).unwrap();
        let small = [machine.incoming.buffer.len(), machine.outgoing.buffer.len()];
        assert_eq!(small, [HANDSHAKE_BUFFER_BYTES; 2], "what carries little stays small");
        let mut records = 0;
        loop {
            match machine.step(&mut Task::Encrypt(&[2; RECORD_BYTES_MAX])).unwrap() {
                Step::Done => records += 1,
                Step::Moved => {}
                Step::Flush => break,
                _ => panic!("nothing else is due"),
            }
        }
        assert_eq!((records, machine.outgoing.buffer.len()), (9, SEND_BYTES));
        while machine.incoming.buffer.len() < RECEIVE_BYTES {
            let space = machine.incoming.buffer.len() - machine.incoming.end;
            machine.incoming.received(space);
        }
        machine.incoming.received(RECEIVE_BYTES - machine.incoming.end);
        assert_eq!(machine.incoming.buffer.len(), RECEIVE_BYTES);
    }

    #[test]
    fn a_flipped_bit_in_length_text_or_tag_is_an_error_and_never_data() {
        // Bytes 0 to 2 say the same in every record and are not looked at: the tag covers what they have to be.
        for byte in [3, 4, 5, 500, 1021] {
            let (mut peer, mut machine, _) = connected();
            peer.0.writer().write_all(&[7; 1000]).unwrap();
            let mut wire = Vec::new();
            peer.0.write_tls(&mut wire).unwrap();
            wire[byte] ^= 1;
            // A longer length waits for bytes that never come; the next record makes up for them.
            peer.0.writer().write_all(&[7; 1000]).unwrap();
            peer.0.write_tls(&mut wire).unwrap();
            feed(&mut machine, &wire);
            let mut data = [0; 3000];
            assert!(machine.step(&mut Task::Receive(&mut data)).is_err(), "byte {byte}");
            assert_eq!(data, [0; 3000]);
            assert!(machine.plain.is_empty());
        }
    }
}
