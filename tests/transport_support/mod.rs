//! What the tests of lanes share: a host that keeps its lanes, a relay that may change bytes, and a bare TLS client.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use haul::secret::{Code, Key, Room, SessionId, SessionSecret};
use haul::transport::{
    DeviceKey, Gatekeeper, Lane, LaneIntro, Listener, ListenerEvent, Proof, Purpose, TransportError, connect,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes; a test that reaches it has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const ROOM: Room = Room::from_bytes(*b"room of the test");
pub const KEY_BYTES: [u8; 16] = *b"key of the tests";
pub const SESSION: SessionId = SessionId::from_bytes([3; 16]);
pub const SECRET_BYTES: [u8; 32] = [4; 32];

pub const CODE_TEXT: &str = "7-amber-canoe-lentil";

/// A listener and what came of it.
pub struct Host {
    pub listener: Listener,
    pub lanes: Receiver<(Lane, LaneIntro)>,
    pub events: Receiver<ListenerEvent>,
    pub code: Arc<Mutex<ShownCode>>,
}

/// The code of a host and what was done with it.
#[derive(Debug, Default)]
pub struct ShownCode {
    pub code: Option<Code>,
    pub tries: u32,
    pub failed: u32,
    pub proven: u32,
}

struct Gate {
    lanes: Mutex<Sender<(Lane, LaneIntro)>>,
    events: Mutex<Sender<ListenerEvent>>,
    code: Arc<Mutex<ShownCode>>,
}

impl Gatekeeper for Gate {
    fn link_key(&self, room: Room) -> Option<Key> {
        (room == ROOM).then(|| Key::from_bytes(KEY_BYTES))
    }

    fn session_secret(&self, id: SessionId) -> Option<SessionSecret> {
        (id == SESSION).then(|| SessionSecret::from_bytes(SECRET_BYTES))
    }

    fn take_code_try(&self) -> Option<Code> {
        let mut shown = self.code.lock().unwrap();
        let code = shown.code.clone().filter(|_| shown.tries < 3)?;
        shown.tries += 1;
        Some(code)
    }

    fn code_proven(&self, code: &Code) -> bool {
        let mut shown = self.code.lock().unwrap();
        let is_first = shown.code.take_if(|shown| shown == code).is_some();
        shown.proven += u32::from(is_first);
        is_first
    }

    fn code_failed(&self, _: &Code) {
        self.code.lock().unwrap().failed += 1;
    }

    fn admit(&self, lane: Lane, intro: LaneIntro) {
        let _ = self.lanes.lock().unwrap().send((lane, intro));
    }

    fn observe(&self, event: ListenerEvent) {
        let _ = self.events.lock().unwrap().send(event);
    }
}

impl Host {
    pub fn start() -> Self {
        let (lanes_in, lanes) = mpsc::channel();
        let (events_in, events) = mpsc::channel();
        let code: Arc<Mutex<ShownCode>> = Arc::default();
        let gate = Gate { lanes: Mutex::new(lanes_in), events: Mutex::new(events_in), code: Arc::clone(&code) };
        let address = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(address, DeviceKey::generate().unwrap(), Arc::new(gate)).unwrap();
        Self { listener, lanes, events, code }
    }

    /// A host that shows [`CODE_TEXT`].
    pub fn with_code() -> Self {
        let host = Self::start();
        host.code.lock().unwrap().code = Some(code());
        host
    }

    /// Tries that were taken, that failed and that succeeded.
    pub fn code_counts(&self) -> (u32, u32, u32) {
        let shown = self.code.lock().unwrap();
        (shown.tries, shown.failed, shown.proven)
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Both ends of a lane.
    pub fn pair(&self) -> (Lane, Lane) {
        let joiner = join(self.address(), &link_proof()).unwrap();
        (joiner, self.lanes.recv_timeout(PATIENCE).unwrap().0)
    }

    pub fn event(&self) -> ListenerEvent {
        self.events.recv_timeout(PATIENCE).unwrap()
    }
}

pub fn link_proof() -> Proof {
    Proof::Link { room: ROOM, key: Key::from_bytes(KEY_BYTES) }
}

pub fn session_proof() -> Proof {
    Proof::Session { id: SESSION, secret: SessionSecret::from_bytes(SECRET_BYTES) }
}

pub fn code() -> Code {
    Code::parse(CODE_TEXT).unwrap()
}

pub fn code_proof() -> Proof {
    Proof::Code(code())
}

pub fn join(address: SocketAddr, proof: &Proof) -> Result<Lane, TransportError> {
    connect(&DeviceKey::generate().unwrap(), &[address], proof, Purpose::Data, Instant::now() + PATIENCE)
}

/// What a relay saw: everything that went to the host and everything that came back.
#[derive(Clone, Default)]
pub struct Tape {
    pub to_host: Arc<Mutex<Vec<u8>>>,
    pub to_joiner: Arc<Mutex<Vec<u8>>>,
}

/// A relay for one connection to `host`. `edit` may change the bytes to the host; it is told how many went before them.
pub fn relay(host: SocketAddr, edit: impl Fn(usize, &mut [u8]) + Send + 'static) -> (SocketAddr, Tape) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let tape = Tape::default();
    let tapes = tape.clone();
    thread::spawn(move || {
        let (joiner, _) = listener.accept().unwrap();
        let host = TcpStream::connect(host).unwrap();
        let (joiner_again, host_again) = (joiner.try_clone().unwrap(), host.try_clone().unwrap());
        thread::spawn(move || carry(joiner_again, host_again, &tapes.to_host, edit));
        carry(host, joiner, &tapes.to_joiner, |_, _| {});
    });
    (address, tape)
}

fn carry(mut from: TcpStream, mut to: TcpStream, tape: &Mutex<Vec<u8>>, edit: impl Fn(usize, &mut [u8])) {
    let mut buffer = vec![0; 1 << 16];
    let mut carried = 0;
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        edit(carried, &mut buffer[..read]);
        carried += read;
        tape.lock().unwrap().extend_from_slice(&buffer[..read]);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Whether the other end has closed or reset `socket`, once everything that it sent is read.
pub fn read_to_end(socket: &mut TcpStream) -> Vec<u8> {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut received = Vec::new();
    if let Err(error) = socket.read_to_end(&mut received) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the other end keeps the connection open");
    }
    received
}

/// TLS settings of an attacker who has a key of its own and believes everything.
pub fn attacker_client(alpn: &[&[u8]], raw_keys: bool) -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous { provider, raw_keys }));
    let mut config = if raw_keys {
        builder.with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(attacker_key())))
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::disabled();
    config
}

/// The other side of [`attacker_client`].
pub fn attacker_server(alpn: &[&[u8]]) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(Credulous { provider, raw_keys: true }))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(attacker_key())));
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.send_tls13_tickets = 0;
    config
}

pub fn tls_client(config: ClientConfig) -> rustls::ClientConnection {
    let name = ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
    rustls::ClientConnection::new(Arc::new(config), name).unwrap()
}

fn attacker_key() -> Arc<CertifiedKey> {
    let mut pkcs8 = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    pkcs8.extend([0x66; 32]);
    let signing = aws_lc_rs::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8)).unwrap();
    let spki = signing.public_key().unwrap().to_vec();
    Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], signing))
}

#[derive(Debug)]
struct Credulous {
    provider: Arc<CryptoProvider>,
    raw_keys: bool,
}

impl Credulous {
    fn check(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("only TLS 1.3 is offered")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.raw_keys
    }
}

impl ClientCertVerifier for Credulous {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("only TLS 1.3 is offered")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
