//! Which certificates a probe trusts for https.
//!
//! Owns the choice between known roots (those of the system and of `--cacert`) and any certificate.
//! Trap: an image without a certificate store has no roots; `SSL_CERT_FILE` or `--cacert` names some.

use std::{path::Path, sync::Arc};

use tokio_rustls::{
    TlsConnector,
    rustls::{
        DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};

use crate::tls::{BadTrust, Roots, builder, provider};

/// A connector for HTTP/1.1. Trusts the roots of the system (or `SSL_CERT_FILE`) and those in `cacert`, a PEM file;
/// or, if `insecure`, any certificate.
pub(super) fn connector(cacert: Option<&Path>, insecure: bool) -> Result<TlsConnector, BadTrust> {
    let mut config = match insecure {
        false => {
            let roots = Roots::none("--cacert").of_system();
            let roots = match cacert {
                Some(file) => roots.of_file(file)?,
                None => roots,
            };
            roots.config()?
        }
        true => {
            let provider = provider();
            let builder = builder(&provider)?.dangerous();
            builder
                .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
                .with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
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
