use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// A certificate authority, and a certificate that it signed for a server on this machine, in PEM files.
#[derive(Clone, Debug)]
pub struct Certificates {
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    key_and_certificate: PathBuf,
}

impl Certificates {
    /// Creates them in this directory, for `localhost` and 127.0.0.1.
    ///
    /// # Errors
    /// Returns an error if the files cannot be written.
    pub fn make(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;

        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "Belfry's tests");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority_key = KeyPair::generate()?;
        let authority_pem = authority.self_signed(&authority_key)?.pem();

        let mut server = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        server.distinguished_name.push(DnType::CommonName, "localhost");
        let key = KeyPair::generate()?;
        let certificate = server.signed_by(&key, &Issuer::new(authority, authority_key))?.pem();

        let write = |name: &str, text: &str| {
            let path = directory.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            anyhow::Ok(path)
        };
        let key = key.serialize_pem();
        Ok(Self {
            authority: write("authority.pem", &authority_pem)?,
            certificate: write("server.pem", &certificate)?,
            key: write("server-key.pem", &key)?,
            key_and_certificate: write("server-key-and-certificate.pem", &format!("{key}{certificate}"))?,
        })
    }

    /// Returns the path of the authority's certificate, which clients trust.
    pub fn authority(&self) -> &Path {
        &self.authority
    }

    /// Returns the path of the server's certificate.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// Returns the path of the server's private key.
    pub fn key(&self) -> &Path {
        &self.key
    }

    /// Returns the path of the file with both key and certificate, as Kafka requires.
    pub fn key_and_certificate(&self) -> &Path {
        &self.key_and_certificate
    }
}
