//! A handshake that trusts nobody, and notes what it was shown.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

/// The protocols that are offered (RFC 7301).
const ALPN: [&str; 2] = ["h2", "http/1.1"];

/// What a server has shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    /// Its certificates, in DER.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// Whether it has signed with the key of the first.
    pub(crate) holds_key: Option<bool>,
    /// It has asked for a certificate.
    pub(crate) has_asked: bool,
}

/// Takes every certificate and has none, and notes both.
#[derive(Debug)]
struct Recorder {
    provider: Arc<CryptoProvider>,
    shown: Arc<Mutex<Shown>>,
}

impl Recorder {
    fn note(&self, note: impl FnOnce(&mut Shown)) {
        note(&mut self.shown.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The handshake goes on: what it still says is worth knowing, and nothing is sent that is worth protecting.
    fn signed(&self, result: &Result<HandshakeSignatureValid, Error>) -> HandshakeSignatureValid {
        self.note(|shown| shown.holds_key = Some(result.is_ok()));
        HandshakeSignatureValid::assertion()
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        let chain = chain.map(|der| der.clone().into_owned()).collect();
        self.note(|shown| shown.chain = chain);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        Ok(self.signed(&verify_tls12_signature(message, certificate, signature, algorithms)))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        Ok(self.signed(&verify_tls13_signature(message, certificate, signature, algorithms)))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ResolvesClientCert for Recorder {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.note(|shown| shown.has_asked = true);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// What a handshake is made by, and where what it is shown is noted.
pub(crate) fn configuration(
    provider: &Arc<CryptoProvider>,
) -> Result<(Arc<ClientConfig>, Arc<Mutex<Shown>>), Error> {
    let shown = Arc::<Mutex<Shown>>::default();
    let recorder = Arc::new(Recorder { provider: provider.clone(), shown: shown.clone() });
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(recorder.clone())
        .with_client_cert_resolver(recorder);
    config.alpn_protocols = ALPN.map(|name| name.as_bytes().to_vec()).to_vec();
    // A session that is taken up again shows nothing.
    config.resumption = rustls::client::Resumption::disabled();
    Ok((Arc::new(config), shown))
}
