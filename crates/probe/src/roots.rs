//! The authorities that a chain is to lead to.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Authorities, and where they are from.
#[derive(Debug)]
pub struct Roots {
    pub(crate) name: String,
    pub(crate) store: RootCertStore,
}

/// Why there are no authorities.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {why}")]
pub struct RootsError {
    name: String,
    why: String,
}

impl Roots {
    /// The system's. There may be none: then no chain leads to one, and that is said of each.
    #[must_use]
    pub fn system() -> Self {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self { name: "system".to_owned(), store }
    }

    /// None, where those that are called `name` cannot be had: no chain leads to one.
    #[must_use]
    pub fn none(name: &str) -> Self {
        Self { name: name.to_owned(), store: RootCertStore::empty() }
    }

    /// Those of a text in PEM, which is called `name`.
    ///
    /// # Errors
    /// If there is none that can be trusted.
    pub fn of_pem(name: &str, text: &[u8]) -> Result<Self, RootsError> {
        let wrong = |why: String| RootsError { name: name.to_owned(), why };
        let mut store = RootCertStore::empty();
        for der in CertificateDer::pem_slice_iter(text) {
            let der = der.map_err(|error| wrong(format!("PEM cannot be read: {error}")))?;
            store.add(der).map_err(|error| wrong(error.to_string()))?;
        }
        if store.is_empty() {
            return Err(wrong("there is no certificate in PEM".to_owned()));
        }
        Ok(Self { name: name.to_owned(), store })
    }
}
