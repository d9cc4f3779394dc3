//! Whom a probe trusts at the other end of https.
//!
//! Owns the choice between the system's roots, a file of roots, and anyone at all. Refuses to go on with
//! no root whatever: every handshake would fail for a reason that nobody sees.
//! Trap: an image without a certificate store has no roots; `SSL_CERT_FILE` or `--cacert` names some.

use std::{path::PathBuf, sync::Arc};

use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime, pem, pem::PemObject},
    },
};

/// Whose certificates are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those that the system trusts (or `SSL_CERT_FILE`).
    System,
    /// Those, and the roots of this PEM file.
    File(PathBuf),
    /// Anybody's.
    Anyone,
}

/// Why https cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum BadTrust {
    /// The file holds no certificate that can be used.
    #[error("--cacert {}: {problem}", file.display())]
    File {
        /// What was named.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// There is nobody to trust.
    #[error("this system has no certificate roots: give --cacert FILE, or set SSL_CERT_FILE")]
    NoRoots,
    /// The cryptography does not come up to what TLS needs.
    #[error("TLS: {0}")]
    Tls(#[from] Error),
}

/// What makes TLS connections, with HTTP/1.1 to be spoken on them.
pub fn connector(trust: &Trust) -> Result<TlsConnector, BadTrust> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let mut config = match trust {
        Trust::System => builder.with_root_certificates(roots(None)?),
        Trust::File(file) => builder.with_root_certificates(roots(Some(file))?),
        Trust::Anyone => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        }
    }
    .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn roots(file: Option<&PathBuf>) -> Result<RootCertStore, BadTrust> {
    let mut roots = RootCertStore::empty();
    // What cannot be read there is no reason not to use the rest.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = file {
        let bad = |problem: String| BadTrust::File { file: file.clone(), problem };
        let read = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect::<Result<Vec<_>, pem::Error>>);
        let certificates = read.map_err(|error| bad(error.to_string()))?;
        if certificates.is_empty() {
            return Err(bad("holds no certificate".to_owned()));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| bad(error.to_string()))?;
        }
    }
    if roots.is_empty() { Err(BadTrust::NoRoots) } else { Ok(roots) }
}

/// Takes any certificate, as `--insecure` asks. The handshake itself is still verified.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
