//! What people compare a certificate by.

use aws_lc_rs::digest::{SHA256, digest};

/// The SHA-256 fingerprint of a certificate in DER, which is what browsers show of it.
pub fn fingerprint(certificate: &[u8]) -> [u8; 32] {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest(&SHA256, certificate).as_ref());
    fingerprint
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_sha_256_of_the_standard() {
        let hex = data_encoding::HEXLOWER.encode(&fingerprint(b"abc"));
        assert_eq!(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
