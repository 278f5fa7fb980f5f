//! The certificate that browsers see over TLS: made here, one for each user, kept with its key where only that user reads it.
//!
//! No authority vouches for it, so a browser warns of it. What it is worth is what people compare its fingerprint with.

use crate::transfer::Identity;
use crate::transport::fingerprint;
use data_encoding::BASE64;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::{Zeroize, Zeroizing};

/// A certificate with its key, and what TLS is spoken by it.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    pub(super) config: Arc<ServerConfig>,
    /// The SHA-256 of it.
    pub(super) fingerprint: [u8; 32],
}

/// A certificate as it is kept.
#[derive(Deserialize, Serialize)]
struct Kept {
    /// Of this form.
    v: u32,
    /// The addresses that it names.
    addresses: Vec<IpAddr>,
    /// Seconds since 1970.
    not_after: u64,
    /// DER, in base64.
    certificate: String,
    /// PKCS #8 in DER, in base64.
    key: String,
}

impl Certificate {
    /// The one that is kept, where it will do for a while and names every address; otherwise one that is made now, and kept.
    pub(super) fn obtain(identity: &Identity) -> io::Result<Self> {
        let file = identity.state_dir.as_deref().map(|folder| folder.join(FILE));
        let now = SystemTime::now();
        if let Some(kept) = file.as_deref().and_then(read).filter(|kept| kept.will_do(&identity.addresses, now))
            && let Ok(certificate) = kept.take_up()
        {
            return Ok(certificate);
        }
        let kept = Kept::make(&identity.addresses, now)?;
        if let Some(file) = file {
            kept.write(&file)?;
        }
        kept.take_up()
    }
}

impl Kept {
    fn make(addresses: &[IpAddr], now: SystemTime) -> io::Result<Self> {
        // The clocks of phones are wrong by hours.
        let (not_before, not_after) = (now - CLOCKS_DIFFER, now - CLOCKS_DIFFER + VALID);
        let mut params = CertificateParams::default();
        params.not_before = not_before.into();
        params.not_after = not_after.into();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "haul");
        let localhost = "localhost".try_into().map_err(io::Error::other)?;
        params.subject_alt_names = addresses.iter().copied().map(SanType::IpAddress).collect();
        params.subject_alt_names.push(SanType::DnsName(localhost));
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
        let certificate = params.self_signed(&pair).map_err(io::Error::other)?;
        let key = Zeroizing::new(pair.serialize_der());
        Ok(Self {
            v: VERSION,
            addresses: addresses.to_vec(),
            not_after: seconds(not_after),
            certificate: BASE64.encode(certificate.der()),
            key: BASE64.encode(&key),
        })
    }

    fn will_do(&self, addresses: &[IpAddr], now: SystemTime) -> bool {
        let names_all = addresses.iter().all(|address| self.addresses.contains(address));
        self.v == VERSION && names_all && seconds(now + RENEWED_BEFORE) < self.not_after
    }

    /// What TLS is spoken by it.
    fn take_up(&self) -> io::Result<Certificate> {
        let decode = |text: &str| BASE64.decode(text.as_bytes()).map_err(io::Error::other);
        let certificate = CertificateDer::from(decode(&self.certificate)?);
        let fingerprint = fingerprint(&certificate);
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(decode(&self.key)?));
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok(Certificate { config: Arc::new(config), fingerprint })
    }

    /// Keeps it, readable by this user alone, in place of the one before.
    fn write(&self, file: &Path) -> io::Result<()> {
        if let Some(folder) = file.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let fresh = file.with_extension(std::process::id().to_string());
        let text = Zeroizing::new(serde_json::to_vec(self)?);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        // What an earlier process of this number left behind may be readable by others.
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let written = options.open(&fresh).and_then(|mut out| {
            out.write_all(&text)?;
            out.sync_all()
        });
        written.and_then(|()| fs::rename(&fresh, file)).inspect_err(|_| drop(fs::remove_file(&fresh)))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// The one that is kept, if it is whole. Neither a link nor a pipe in its place is of any use.
fn read(file: &Path) -> Option<Kept> {
    if !fs::symlink_metadata(file).ok()?.is_file() {
        return None;
    }
    let mut text = Zeroizing::new(Vec::new());
    File::open(file).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

const FILE: &str = "certificate.json";
const VERSION: u32 = 1;
/// More than any of these files has.
const FILE_BYTES_MAX: u64 = 64 * 1024;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Browsers take none that is valid for more than 398 days.
const VALID: Duration = Duration::from_secs(397 * DAY.as_secs());
const CLOCKS_DIFFER: Duration = DAY;
/// No run is likely to last so long.
const RENEWED_BEFORE: Duration = Duration::from_secs(30 * DAY.as_secs());

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn identity(folder: &Path, addresses: &[&str]) -> Identity {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Identity { state_dir: Some(folder.join("state")), addresses }
    }

    fn obtain(folder: &Path, addresses: &[&str]) -> [u8; 32] {
        Certificate::obtain(&identity(folder, addresses)).unwrap().fingerprint
    }

    #[test]
    fn it_is_kept_for_its_user_alone_and_made_anew_where_it_lacks_an_address() {
        let folder = tempfile::tempdir().unwrap();
        let first = obtain(folder.path(), &["127.0.0.1", "10.0.0.7"]);
        let file = folder.path().join("state").join(FILE);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(obtain(folder.path(), &["127.0.0.1", "10.0.0.7"]), first);
        assert_eq!(obtain(folder.path(), &["127.0.0.1"]), first, "it names more than it has to");
        let second = obtain(folder.path(), &["127.0.0.1", "10.0.0.8"]);
        assert_ne!(second, first);
        assert_eq!(obtain(folder.path(), &["10.0.0.8"]), second);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        let left: Vec<_> = fs::read_dir(file.parent().unwrap()).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(left, [FILE]);
    }

    #[test]
    fn it_is_made_anew_a_month_before_its_end() {
        let now = SystemTime::now();
        let addresses = ["10.0.0.7".parse().unwrap()];
        let kept = Kept::make(&addresses, now).unwrap();
        assert!(kept.will_do(&addresses, now) && kept.will_do(&addresses, now + 365 * DAY));
        assert!(!kept.will_do(&addresses, now + 366 * DAY));
        assert!(kept.not_after - seconds(now - CLOCKS_DIFFER) <= 398 * DAY.as_secs());
        let folder = tempfile::tempdir().unwrap();
        let old = Kept::make(&addresses, now - 370 * DAY).unwrap();
        let file = folder.path().join("state").join(FILE);
        old.write(&file).unwrap();
        let fresh = obtain(folder.path(), &["10.0.0.7"]);
        assert_ne!(fresh, old.take_up().unwrap().fingerprint);
        assert_eq!(obtain(folder.path(), &["10.0.0.7"]), fresh);
    }

    #[test]
    fn one_that_is_damaged_or_no_file_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let first = obtain(folder.path(), &["10.0.0.7"]);
        let file = folder.path().join("state").join(FILE);
        let text = fs::read_to_string(&file).unwrap();
        for damaged in
            [&text[..text.len() / 2], "", "{}", &text.replace("MI", "!!"), &text.replace("\"v\":1", "\"v\":2")]
        {
            fs::write(&file, damaged).unwrap();
            assert_ne!(obtain(folder.path(), &["10.0.0.7"]), first, "{damaged}");
        }
        fs::remove_file(&file).unwrap();
        symlink("/dev/zero", &file).unwrap();
        obtain(folder.path(), &["10.0.0.7"]);
        assert!(fs::symlink_metadata(&file).unwrap().is_file(), "it took the link's place");
    }

    #[test]
    fn without_a_folder_it_is_another_one_each_time() {
        let identity = Identity { state_dir: None, addresses: vec!["10.0.0.7".parse().unwrap()] };
        let obtain = || Certificate::obtain(&identity).unwrap().fingerprint;
        assert_ne!(obtain(), obtain());
    }
}
