//! TLS as a client: which certificates are trusted.
//!
//! Owns the choice of roots for a connection to another server: those of the system (or `SSL_CERT_FILE`), those of a
//! file, or both. The name in the certificate is always compared. Refuses to go on without any root, since every
//! handshake would fail.
//! Trap: an image without a certificate store has no roots of its own.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, ConfigBuilder, Error, RootCertStore, WantsVerifier,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, pem, pem::PemObject},
    },
};

/// Why TLS is not possible.
#[derive(Debug, thiserror::Error)]
pub enum BadTrust {
    /// A file with roots cannot be used.
    #[error("{option} {}: {problem}", file.display())]
    File {
        /// What named the file.
        option: &'static str,
        /// The file.
        file: PathBuf,
        /// Why not.
        problem: String,
    },
    /// Nothing is trusted.
    #[error("this system has no certificate roots: give {option} FILE, or set SSL_CERT_FILE")]
    NoRoots {
        /// What could name a file.
        option: &'static str,
    },
    /// The cryptography cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] Error),
}

/// What is trusted. `option` is where an operator can name a file.
pub(crate) struct Roots {
    store: RootCertStore,
    option: &'static str,
}

impl Roots {
    pub(crate) fn none(option: &'static str) -> Self {
        Self { store: RootCertStore::empty(), option }
    }

    /// With those of the system.
    pub(crate) fn of_system(mut self) -> Self {
        // A system may have certificates that cannot be parsed; the rest is used.
        self.store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        self
    }

    /// With those in a PEM file.
    pub(crate) fn of_file(mut self, file: &Path) -> Result<Self, BadTrust> {
        let option = self.option;
        let bad = |problem: String| BadTrust::File { option, file: file.into(), problem };
        let read = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect::<Result<Vec<_>, pem::Error>>);
        let certificates = read.map_err(|error| bad(error.to_string()))?;
        if certificates.is_empty() {
            return Err(bad("holds no certificate".to_owned()));
        }
        for certificate in certificates {
            self.store.add(certificate).map_err(|error| bad(error.to_string()))?;
        }
        Ok(self)
    }

    /// A client that trusts them.
    pub(crate) fn config(self) -> Result<ClientConfig, BadTrust> {
        if self.store.is_empty() {
            return Err(BadTrust::NoRoots { option: self.option });
        }
        Ok(builder(&provider())?.with_root_certificates(self.store).with_no_client_auth())
    }

    /// The same, for a protocol that needs no name of its own in the handshake.
    pub(crate) fn connector(self) -> Result<TlsConnector, BadTrust> {
        Ok(TlsConnector::from(Arc::new(self.config()?)))
    }
}

/// The cryptography in use.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A client that trusts nothing yet.
pub(crate) fn builder(
    provider: &Arc<CryptoProvider>,
) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions()
}
