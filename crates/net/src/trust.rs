use std::{
    fmt,
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// Maximum size of a file of certificates, in bytes: five times the bundle of a distribution.
const MAX_FILE: u64 = 1 << 20;
/// Length of a line of base64 in PEM, in characters.
const PEM_LINE: usize = 64;

/// A file of certificates that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` {problem}", path.display())]
pub struct CaFileError {
    path: PathBuf,
    problem: String,
}

/// The certificate authorities that are trusted: the bundled ones, those of the operating system, and added ones. Cheap to
/// clone.
#[derive(Clone, Default)]
pub struct Trust {
    added: Arc<[CertificateDer<'static>]>,
}

impl Trust {
    /// Returns these authorities and those of a PEM file.
    ///
    /// # Errors
    /// Fails when the file cannot be read, holds no certificate, or holds one that cannot be used.
    pub fn with_ca_file(&self, path: &Path) -> Result<Self, CaFileError> {
        let wrong = |problem: String| CaFileError { path: path.to_owned(), problem };
        let mut pem = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut pem))
            .map_err(|error| wrong(format!("cannot be read ({})", error.kind())))?;
        if pem.len() as u64 > MAX_FILE {
            return Err(wrong(format!("is larger than {MAX_FILE} bytes")));
        }
        // Editors of some systems begin a text with a byte order mark, which would hide the first certificate.
        let pem = pem.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&pem);
        let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|_| wrong("is not a PEM file of certificates".to_owned()))?;
        if found.is_empty() {
            return Err(wrong("holds no certificate (`-----BEGIN CERTIFICATE-----`)".to_owned()));
        }
        for (position, certificate) in found.iter().enumerate() {
            RootCertStore::empty()
                .add(certificate.clone())
                .map_err(|error| wrong(format!("cannot be used: certificate {}: {error}", position + 1)))?;
        }
        Ok(Self { added: self.added.iter().cloned().chain(found).collect() })
    }

    /// Returns whether there are no added authorities.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.added.is_empty()
    }

    /// Makes the TLS configuration of a client. It verifies certificate and host name.
    #[must_use]
    pub fn client_config(&self) -> ClientConfig {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        roots.add_parsable_certificates(self.beyond_bundled().cloned());
        ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
    }

    /// Returns the authorities that are not bundled as PEM, for a driver that takes only that and has the bundled ones.
    #[must_use]
    pub fn pem_beyond_bundled(&self) -> String {
        let mut pem = String::new();
        for certificate in self.beyond_bundled() {
            pem.push_str("-----BEGIN CERTIFICATE-----\n");
            let mut encoded = BASE64_STANDARD.encode(certificate);
            while !encoded.is_empty() {
                let rest = encoded.split_off(encoded.len().min(PEM_LINE));
                pem.push_str(&encoded);
                pem.push('\n');
                encoded = rest;
            }
            pem.push_str("-----END CERTIFICATE-----\n");
        }
        pem
    }

    fn beyond_bundled(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        of_the_system().iter().chain(self.added.iter())
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("added", &self.added.len()).finish_non_exhaustive()
    }
}

/// Returns the usable certificates of the operating system, which are read once. A machine may have none.
fn of_the_system() -> &'static [CertificateDer<'static>] {
    static CERTIFICATES: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    CERTIFICATES.get_or_init(|| {
        let loaded = rustls_native_certs::load_native_certs();
        for error in loaded.errors {
            tracing::debug!(%error, "certificates of the operating system could not be read");
        }
        let is_usable =
            |certificate: &CertificateDer<'static>| RootCertStore::empty().add(certificate.clone()).is_ok();
        loaded.certs.into_iter().filter(is_usable).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Authority;

    #[test]
    fn with_ca_file_unusable_names_file_and_problem() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let problem = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            Trust::default().with_ca_file(&path).unwrap_err().to_string()
        };
        assert!(problem(b"").contains("holds no certificate"));
        assert!(
            problem(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
                .contains("certificate 1")
        );
        assert!(problem(b"-----BEGIN CERTIFICATE-----\n!!\n").contains("not a PEM file"));
        assert!(problem(&vec![b'x'; 1 << 21]).contains("larger"));
        let missing = Trust::default().with_ca_file(&folder.path().join("none.pem")).unwrap_err().to_string();
        assert!(missing.contains("none.pem") && missing.contains("cannot be read"), "{missing}");
    }

    #[test]
    fn with_ca_file_reads_several_certificates_behind_a_byte_order_mark() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let (one, two) = (Authority::new(), Authority::new());
        std::fs::write(&path, format!("\u{feff}{}\r\n{}", one.pem(), two.pem())).unwrap();
        let trust = Trust::default().with_ca_file(&path).unwrap();
        assert_eq!(trust.added.len(), 2);
        // The driver that gets the PEM reads the same certificates.
        let pem = trust.pem_beyond_bundled();
        let read: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap();
        assert_eq!(read[read.len() - 2..], trust.added[..]);
        assert_eq!(read.len(), of_the_system().len() + 2);
    }
}
