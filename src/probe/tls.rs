//! Which certificates a probe trusts for https.
//!
//! Owns the choice between the system's roots, a file with more roots, and any certificate. Refuses to start without any
//! root, since every handshake would fail.
//! Trap: an image without a certificate store has no roots; `SSL_CERT_FILE` or `--cacert` names some.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime, pem, pem::PemObject},
    },
};

/// Why https is not possible.
#[derive(Debug, thiserror::Error)]
pub enum BadTrust {
    #[error("--cacert {}: {problem}", file.display())]
    File { file: PathBuf, problem: String },
    #[error("this system has no certificate roots: give --cacert FILE, or set SSL_CERT_FILE")]
    NoRoots,
    #[error("TLS: {0}")]
    Tls(#[from] Error),
}

/// A connector for HTTP/1.1. Trusts the roots of the system (or `SSL_CERT_FILE`) and those in `cacert`, a PEM file;
/// or, if `insecure`, any certificate.
pub(super) fn connector(cacert: Option<&Path>, insecure: bool) -> Result<TlsConnector, BadTrust> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let mut config = match insecure {
        false => builder.with_root_certificates(roots(cacert)?),
        true => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))),
    }
    .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, BadTrust> {
    let mut roots = RootCertStore::empty();
    // A store may hold certificates that cannot be parsed; the rest is used.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = file {
        let bad = |problem: String| BadTrust::File { file: file.into(), problem };
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

/// Accepts any certificate; the handshake signatures are still verified.
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
