//! What stands in a certificate (RFC 5280).

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bulkhead_api::event::Timestamp;
use bulkhead_api::text::plain;
use bulkhead_api::tls::Certificate;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

/// Alternative names of each kind that are listed.
const NAMES: usize = 32;

/// The longest text that is kept of a name, bytes.
const LONGEST: usize = 512;

/// Why a certificate cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It is not what RFC 5280 says.
    #[error("a certificate cannot be read: {0}")]
    Malformed(String),
    /// There is none.
    #[error("there is no certificate in PEM")]
    None,
    /// PEM is broken.
    #[error("PEM cannot be read: {0}")]
    Pem(String),
}

/// Reads a certificate in DER.
///
/// # Errors
/// If it is none.
pub fn certificate(der: &[u8]) -> Result<Certificate, CertificateError> {
    let malformed = |error: &dyn std::fmt::Display| CertificateError::Malformed(error.to_string());
    let (rest, read) = X509Certificate::from_der(der).map_err(|error| malformed(&error))?;
    if !rest.is_empty() {
        return Err(malformed(&format!("{} bytes follow it", rest.len())));
    }
    let mut found = Certificate {
        subject: cut(&read.subject().to_string()),
        issuer: cut(&read.issuer().to_string()),
        serial: hexadecimal(read.raw_serial()),
        sha256: hexadecimal(&Sha256::digest(der)),
        not_before: timestamp(read.validity().not_before),
        not_after: timestamp(read.validity().not_after),
        spiffe: Vec::new(),
        uris: Vec::new(),
        dns: Vec::new(),
        addresses: Vec::new(),
        more_names: 0,
    };
    let names = read.subject_alternative_name().map_err(|error| malformed(&error))?;
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        let is_listed = match name {
            GeneralName::URI(uri) if uri.starts_with("spiffe://") => take(&mut found.spiffe, cut(uri)),
            GeneralName::URI(uri) => take(&mut found.uris, cut(uri)),
            GeneralName::DNSName(name) => take(&mut found.dns, cut(name)),
            GeneralName::IPAddress(bytes) => {
                address(bytes).is_some_and(|address| take(&mut found.addresses, address))
            }
            _ => false,
        };
        found.more_names += usize::from(!is_listed);
    }
    Ok(found)
}

/// The certificates of a text in PEM; whatever else stands there, such as a key, is passed over.
///
/// # Errors
/// If there is none, or one of them cannot be read.
pub fn of_pem(text: &[u8]) -> Result<Vec<Certificate>, CertificateError> {
    let mut found = Vec::new();
    for der in CertificateDer::pem_slice_iter(text) {
        found.push(certificate(&der.map_err(|error| CertificateError::Pem(error.to_string()))?)?);
    }
    if found.is_empty() { Err(CertificateError::None) } else { Ok(found) }
}

fn take<T>(list: &mut Vec<T>, name: T) -> bool {
    let has_room = list.len() < NAMES;
    if has_room {
        list.push(name);
    }
    has_room
}

/// The text for people and labels: whoever presents a certificate has written it.
fn cut(text: &str) -> String {
    let text = plain(text);
    if text.len() <= LONGEST {
        return text.into_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(LONGEST)])
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        _ => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
    }
}

/// A time; what a timestamp cannot hold is the first or the last that it can.
fn timestamp(time: ASN1Time) -> Timestamp {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    Timestamp::from_unix(seconds.saturating_mul(1_000_000_000))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
