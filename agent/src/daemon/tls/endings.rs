//! Certificates as the expiry watch takes them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use bulkhead_api::event::Expiring;
use bulkhead_api::tls::{Certificate, CertificateFile};

use super::SOURCE;
use crate::daemon::expiry::Ending;
use crate::daemon::state::{Enforcer, held};

/// Tells the watch of all that is known.
pub(super) fn put(enforcer: &Enforcer) {
    let all = {
        let kept = held(&enforcer.tls.0);
        endings(&kept.presented, &kept.watched.files)
    };
    enforcer.shared.endings.put(SOURCE, all);
}

/// Each certificate by what it is called and where it is, each once where several ports present it.
fn endings(presented: &BTreeMap<SocketAddr, Certificate>, files: &[CertificateFile]) -> Vec<Ending> {
    // Several addresses may be one port's, and several ports one service's.
    let of_ports = presented.iter().map(|(address, own)| (own, format!("presented at {address}"), None));
    let of_files = files.iter().flat_map(|file| {
        let place = || (format!("in {}", file.file), Some(&*file.file));
        file.certificates.iter().map(move |certificate| {
            let (words, file) = place();
            (certificate, words, file)
        })
    });
    let (mut seen, mut names, mut endings) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for (certificate, place, file) in of_ports.chain(of_files) {
        if !seen.insert((file, &certificate.sha256)) {
            continue;
        }
        let mut name = format!("{} {place}", certificate.title());
        if !names.insert(name.clone()) {
            name = format!("{name} ({})", certificate.sha256);
        }
        endings.push(Ending {
            kind: Expiring::Certificate,
            name,
            begins: Some(certificate.not_before.unix()),
            ends: certificate.not_after.unix(),
        });
    }
    endings
}

#[cfg(test)]
pub(super) mod tests {
    use bulkhead_api::event::Timestamp;
    use bulkhead_api::tls::{Certificate, CertificateFile};

    use super::endings;

    /// One by its subject and its digest.
    pub(in crate::daemon::tls) fn certificate(subject: &str, sha256: &str) -> Certificate {
        Certificate {
            subject: subject.to_owned(),
            issuer: String::new(),
            serial: "01".to_owned(),
            sha256: sha256.to_owned(),
            not_before: Timestamp::from_unix(1),
            not_after: Timestamp::from_unix(2),
            spiffe: vec![],
            uris: vec![],
            dns: vec![],
            addresses: vec![],
            more_names: 0,
        }
    }

    #[test]
    fn each_has_a_name_of_its_own_and_one_of_several_ports_is_one() {
        let at = |address: &str, of: Certificate| (address.parse().unwrap(), of);
        let presented = [
            at("100.64.0.1:1", certificate("CN=a", "aa")),
            at("[fd7a::1]:1", certificate("CN=a", "aa")),
            at("100.64.0.1:2", certificate("CN=b", "bb")),
        ];
        let file =
            |name: &str, certificates| CertificateFile { file: name.to_owned(), certificates, problem: None };
        let files = [
            file("/x", vec![certificate("CN=a", "aa"), certificate("CN=a", "cc")]),
            file("/y", vec![certificate("CN=a", "aa")]),
        ];
        let endings = endings(&presented.into(), &files);
        let names: Vec<&str> = endings.iter().map(|ending| &*ending.name).collect();
        let wanted = [
            "CN=a presented at 100.64.0.1:1",
            "CN=b presented at 100.64.0.1:2",
            "CN=a in /x",
            "CN=a in /x (cc)",
            "CN=a in /y",
        ];
        assert_eq!(names, wanted);
        assert_eq!((endings[0].begins, endings[0].ends), (Some(1), 2));
    }
}
