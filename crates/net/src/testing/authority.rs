use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::Trust;

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// From 2000 to 2100.
    Now,
    /// From 2000 to 2001.
    Expired,
    /// From 2099 to 2100.
    Future,
}

/// A certificate authority that no system trusts.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate of a server, with its key.
#[derive(Debug)]
pub struct Certificate {
    /// The certificate, as PEM.
    pub certificate_pem: String,
    /// Its private key, as PEM.
    pub key_pem: String,
    der: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Authority {
    /// Makes a new one with a name of its own.
    #[must_use]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        Self::named(&format!("A test's authority {}", COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    /// Makes a new one.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Returns its certificate as PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Writes its certificate into a folder.
    #[must_use]
    pub fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("ca.pem");
        std::fs::write(&path, &self.pem).unwrap();
        path
    }

    /// Returns the default authorities and this one.
    #[must_use]
    pub fn trust(&self) -> Trust {
        let folder = std::env::temp_dir().join(format!("larkauth-ca-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{self:p}.pem"));
        std::fs::write(&path, &self.pem).unwrap();
        let trust = Trust::default().with_ca_file(&path);
        std::fs::remove_file(&path).unwrap();
        trust.unwrap()
    }

    /// Issues a certificate for host names and addresses.
    #[must_use]
    pub fn issue(&self, names: &[&str], validity: Validity) -> Certificate {
        let mut params =
            CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        (params.not_before, params.not_after) = match validity {
            Validity::Now => (date_time_ymd(2000, 1, 1), date_time_ymd(2100, 1, 1)),
            Validity::Expired => (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1)),
            Validity::Future => (date_time_ymd(2099, 1, 1), date_time_ymd(2100, 1, 1)),
        };
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Certificate {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            der: certificate.der().clone(),
            key: key.serialize_der(),
        }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Certificate {
    /// Returns the TLS configuration of a server with this certificate.
    #[must_use]
    pub fn server_config(&self) -> ServerConfig {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.clone()));
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![self.der.clone()], key).unwrap()
    }
}
