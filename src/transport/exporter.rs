//! Keying material of one TLS connection, which no relay in the middle shares (RFC 8446, section 7.5).
//!
//! The unbuffered connections of rustls, which carry the lanes because they copy least, have no call for it. They do
//! hand the exporter secret to a key log, from which the same value follows; a test compares the two.

use rustls::crypto::tls13::{HkdfExpander, OkmBlock};
use rustls::{KeyLog, Tls13CipherSuite};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use zeroize::Zeroizing;

/// Takes the exporter secret of one connection, and none of its other secrets.
#[derive(Default)]
pub(super) struct ExporterTap(Mutex<Option<Zeroizing<Vec<u8>>>>);

impl ExporterTap {
    /// 32 bytes for each of `labels`, or nothing before the handshake is complete. The secret is wiped: there is one call.
    pub(super) fn export<const N: usize>(
        &self,
        suite: &Tls13CipherSuite,
        labels: [&[u8]; N],
    ) -> Option<[Zeroizing<[u8; 32]>; N]> {
        let secret = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(labels.map(|label| exported(suite, &secret, label)))
    }
}

fn exported(suite: &Tls13CipherSuite, secret: &[u8], label: &[u8]) -> Zeroizing<[u8; 32]> {
    let empty_hash = suite.common.hash_provider.hash(&[]);
    let of_label = {
        let expander = suite.hkdf_provider.expander_for_okm(&OkmBlock::new(secret));
        expand(expander.as_ref(), label, empty_hash.as_ref(), expander.hash_len())
    };
    let expander = suite.hkdf_provider.expander_for_okm(&OkmBlock::new(&of_label));
    let mut material = Zeroizing::new([0; 32]);
    material.copy_from_slice(&expand(expander.as_ref(), b"exporter", empty_hash.as_ref(), 32));
    material
}

impl KeyLog for ExporterTap {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if label == EXPORTER_SECRET {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Zeroizing::new(secret.to_vec()));
        }
    }

    fn will_log(&self, label: &str) -> bool {
        label == EXPORTER_SECRET
    }
}

impl fmt::Debug for ExporterTap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ExporterTap([redacted])")
    }
}

/// HKDF-Expand-Label of RFC 8446, section 7.1. Labels and contexts are ours and short.
fn expand(expander: &dyn HkdfExpander, label: &[u8], context: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
    let short = "labels, contexts and lengths here are constants below 256";
    let length_field = u16::try_from(length).expect(short).to_be_bytes();
    let label_length = u8::try_from(LABEL_PREFIX.len() + label.len()).expect(short);
    let context_length = u8::try_from(context.len()).expect(short);
    let mut output = Zeroizing::new(vec![0; length]);
    expander
        .expand_slice(&[&length_field, &[label_length], LABEL_PREFIX, label, &[context_length], context], &mut output)
        .expect("one block is never too long for HKDF");
    output
}

const LABEL_PREFIX: &[u8] = b"tls13 ";

/// The name of the exporter secret in a key log.
const EXPORTER_SECRET: &str = "EXPORTER_SECRET";
