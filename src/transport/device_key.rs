//! The key pair of one run and the TLS settings of both roles.

use super::exporter::ExporterTap;
use super::fresh::random_bytes;
use super::{ALPN, TransportError};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group, sign::any_eddsa_type};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, PeerIncompatible, ServerConfig, SignatureScheme};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The Ed25519 key pair of one run, with which this end signs its handshakes. It names nobody: who is who is proven
/// afterwards.
#[derive(Clone)]
pub struct DeviceKey(Arc<Settings>);

struct Settings {
    spki: Vec<u8>,
    client: ClientConfig,
    server: ServerConfig,
}

impl DeviceKey {
    /// A key pair that no run had before.
    pub fn generate() -> Result<Self, TransportError> {
        let seed = random_bytes::<32>()?;
        let mut pkcs8 = Zeroizing::new(Vec::with_capacity(PKCS8_PREFIX.len() + seed.len()));
        pkcs8.extend_from_slice(&PKCS8_PREFIX);
        pkcs8.extend_from_slice(&*seed);
        let signing = any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.as_slice())).map_err(TransportError::Tls)?;
        let no_public_half = || TransportError::Tls(rustls::Error::General("a key pair without a public key".into()));
        let spki = signing.public_key().ok_or_else(no_public_half)?.to_vec();
        let certified = Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki.clone())], signing));
        let provider = Arc::new(provider());
        let client = client_config(&provider, &certified).map_err(TransportError::Tls)?;
        let server = server_config(&provider, &certified).map_err(TransportError::Tls)?;
        Ok(Self(Arc::new(Settings { spki, client, server })))
    }

    /// This end's public key, as both ends put it into their proofs.
    pub(super) fn spki(&self) -> &[u8] {
        &self.0.spki
    }

    /// The settings of one connection as joiner, whose exporter secret goes to `tap`.
    pub(super) fn client_config(&self, tap: Arc<ExporterTap>) -> Arc<ClientConfig> {
        let mut config = self.0.client.clone();
        config.key_log = tap;
        Arc::new(config)
    }

    /// The settings of one connection as host, whose exporter secret goes to `tap`.
    pub(super) fn server_config(&self, tap: Arc<ExporterTap>) -> Arc<ServerConfig> {
        let mut config = self.0.server.clone();
        config.key_log = tap;
        Arc::new(config)
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DeviceKey([redacted])")
    }
}

fn provider() -> CryptoProvider {
    let gcm = [cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_AES_256_GCM_SHA384];
    let chacha = [cipher_suite::TLS13_CHACHA20_POLY1305_SHA256];
    let cipher_suites = if has_fast_aes() { [&gcm[..], &chacha].concat() } else { [&chacha[..], &gcm].concat() };
    // The hybrid first: what is recorded today stays secret when somebody has a quantum computer.
    CryptoProvider { cipher_suites, kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519], ..default_provider() }
}

fn client_config(provider: &Arc<CryptoProvider>, key: &Arc<CertifiedKey>) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyRawKey(provider.signature_verification_algorithms)))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::clone(key))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.enable_early_data = false;
    Ok(config)
}

fn server_config(provider: &Arc<CryptoProvider>, key: &Arc<CertifiedKey>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(AnyRawKey(provider.signature_verification_algorithms)))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::clone(key))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    // The end without AES instructions is the slow one, so its wish counts whichever end it is.
    config.ignore_client_order = !has_fast_aes();
    Ok(config)
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_fast_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_fast_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn has_fast_aes() -> bool {
    false
}

/// Accepts whatever raw key the other end has, once it has signed this handshake with it. Who holds the key is for the
/// proof that follows.
#[derive(Debug)]
struct AnyRawKey(WebPkiSupportedAlgorithms);

impl AnyRawKey {
    fn check(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.0)
    }
}

impl ServerCertVerifier for AnyRawKey {
    fn verify_server_cert(
        &self,
        _key: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
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

impl ClientCertVerifier for AnyRawKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _key: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
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

/// What stands before the 32 secret bytes in the PKCS #8 form of an Ed25519 key (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
