//! The other end of TLS, as a browser is: it asks for what it likes, and takes any certificate, or one alone.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses the part that it needs")]

use crate::browser::{Browser, Reply, read_reply};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    StreamOwned,
};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// A connection whose handshake is over.
pub type Joined = StreamOwned<ClientConnection, TcpStream>;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Shakes hands and asks for `protocols`, whoever it is. Where that fails, the alert that came.
pub fn join(at: SocketAddr, protocols: &[&[u8]]) -> Result<Joined, Option<AlertDescription>> {
    let name = ServerName::IpAddress(at.ip().into());
    handshake(at, config(Arc::new(Anybody(default_provider())), protocols), name).map_err(|error| match error {
        Error::AlertReceived(alert) => Some(alert),
        other => {
            eprintln!("the handshake failed: {other}");
            None
        }
    })
}

/// Shakes hands with whoever has `certificate`, by `name`.
pub fn trust(at: SocketAddr, certificate: &CertificateDer<'_>, name: &str) -> Result<(), Error> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone().into_owned()).unwrap();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()));
    let name = ServerName::try_from(name.to_owned()).unwrap();
    handshake(at, config(verifier.build().unwrap(), &[b"http/1.1"]), name).map(drop)
}

/// The certificate of the other end.
pub fn certificate(joined: &Joined) -> &CertificateDer<'static> {
    &joined.conn.peer_certificates().unwrap()[0]
}

/// The first message of a handshake.
pub fn hello(protocols: &[&[u8]]) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let config = config(Arc::new(Anybody(default_provider())), protocols);
    let mut bytes = Vec::new();
    ClientConnection::new(config, name).unwrap().write_tls(&mut bytes).unwrap();
    bytes
}

/// Sends a request over a connection of its own, and reads one answer.
pub fn exchange(at: SocketAddr, request: &[u8]) -> Option<Reply> {
    let mut joined = join(at, &[b"http/1.1"]).unwrap();
    // It may be refused before all of it is sent.
    let _ = joined.write_all(request);
    read_reply(&mut joined, request.starts_with(b"HEAD "))
}

/// Asks for `path` over a connection.
pub fn ask(joined: &mut Joined, browser: &Browser, path: &str) -> Option<Reply> {
    write!(joined, "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", browser.address()).unwrap();
    read_reply(joined, false)
}

fn config(verifier: Arc<dyn ServerCertVerifier>, protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

fn handshake(at: SocketAddr, config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Joined, Error> {
    let mut conn = ClientConnection::new(config, name).unwrap();
    let mut socket = TcpStream::connect(at).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    while conn.is_handshaking() {
        if let Err(error) = conn.complete_io(&mut socket) {
            let error = error.downcast::<Error>();
            return Err(error.unwrap_or_else(|error| Error::General(error.to_string())));
        }
    }
    Ok(StreamOwned::new(conn, socket))
}

/// Takes whoever it is, as a user does who clicks the warning away.
#[derive(Debug)]
struct Anybody(CryptoProvider);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not offered".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
