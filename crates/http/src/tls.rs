//! TLS: whom to trust, and as whom to come.

use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};

/// Files of TLS, PEM; they are read at each connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of authorities to trust; none: the system's.
    pub ca: Option<PathBuf>,
    /// This host's own certificate, if the receiver asks for one, and its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Talks TLS over a connection, after a handshake in which the receiver has shown who it is.
///
/// # Errors
/// If a file cannot be read or the handshake fails.
pub fn handshake(
    tls: &Tls,
    host: &str,
    mut tcp: TcpStream,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let config = configuration(tls)?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| invalid(&format!("{host}: {error}")))?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut tcp)?;
    }
    Ok(StreamOwned::new(connection, tcp))
}

/// What rustls needs to come as a client.
///
/// # Errors
/// If a file cannot be read or holds nothing that fits.
pub fn configuration(tls: &Tls) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(authorities(tls)?);
    if added == 0 {
        return Err(invalid("there is no authority to trust; name a file with `ca`"));
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots);
    match &tls.identity {
        Some((chain, key)) => {
            let (certificates, secret) = identity(chain, key)?;
            let of_both = |error| invalid(&format!("{} and {}: {error}", chain.display(), key.display()));
            config.with_client_auth_cert(certificates, secret).map_err(of_both)
        }
        None => Ok(config.with_no_client_auth()),
    }
}

/// The same for HTTP.
pub(crate) fn for_http(tls: &Tls) -> io::Result<TlsConfig> {
    // ureq panics where rustls refuses a key.
    configuration(tls)?;
    let authorities: Vec<_> =
        authorities(tls)?.iter().map(|authority| Certificate::from_der(authority).to_owned()).collect();
    let identity = match &tls.identity {
        Some((chain, key)) => {
            let chain: Vec<_> =
                certificates(chain)?.iter().map(|of| Certificate::from_der(of).to_owned()).collect();
            let wrong = |error: &dyn std::fmt::Display| invalid(&format!("{}: {error}", key.display()));
            let pem = std::fs::read(key).map_err(|error| wrong(&error))?;
            let key = PrivateKey::from_pem(&pem).map_err(|error| wrong(&error))?;
            Some(ClientCert::new_with_certs(&chain, key))
        }
        None => None,
    };
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::new_with_certs(&authorities))
        .client_cert(identity)
        .unversioned_rustls_crypto_provider(provider())
        .build())
}

/// Whom to trust.
fn authorities(tls: &Tls) -> io::Result<Vec<CertificateDer<'static>>> {
    match &tls.ca {
        Some(path) => certificates(path),
        None => Ok(rustls_native_certs::load_native_certs().certs),
    }
}

fn identity(chain: &Path, key: &Path) -> io::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let wrong = |error| invalid(&format!("{}: {error}", key.display()));
    Ok((certificates(chain)?, PrivateKeyDer::from_pem_file(key).map_err(wrong)?))
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let wrong = |error| invalid(&format!("{}: {error}", path.display()));
    let found =
        CertificateDer::pem_file_iter(path).map_err(wrong)?.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    if found.is_empty() {
        return Err(invalid(&format!("{}: holds no certificate in PEM", path.display())));
    }
    Ok(found)
}

fn invalid(words: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}
