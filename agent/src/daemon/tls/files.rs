//! Files of certificates that agent.toml names.

use std::path::Path;

use bulkhead_api::tls::{Certificate, CertificateFile};
use bulkhead_probe::of_pem;

use crate::daemon::regular;
use crate::daemon::state::{Enforcer, held};

/// The longest file, bytes.
pub(super) const LONGEST: u64 = 1 << 20;

/// Reads all of them. Of one that cannot be read, what it held last stays known.
pub(super) fn look(enforcer: &Enforcer) {
    // Nothing is held while a disk is waited for.
    let read: Vec<_> = enforcer.setup.config.tls.files.iter().map(|path| (path, read(path))).collect();
    let found = &mut held(&enforcer.tls.0).watched;
    let before = std::mem::take(&mut found.files);
    for (path, read) in read {
        let file = path.display().to_string();
        let known = before.iter().find(|known| known.file == file);
        let (certificates, problem) = match read {
            Ok(certificates) => (certificates, None),
            Err(why) => (known.map(|known| known.certificates.clone()).unwrap_or_default(), Some(why)),
        };
        if let Some(why) =
            problem.as_ref().filter(|_| known.and_then(|known| known.problem.as_ref()) != problem.as_ref())
        {
            tracing::warn!("file of certificates {file}: {why}");
        }
        found.files.push(CertificateFile { file, certificates, problem });
    }
}

/// What a file holds. A key beside it is not kept.
fn read(path: &Path) -> Result<Vec<Certificate>, String> {
    let bytes = regular::read_bytes(path, LONGEST)?;
    of_pem(&bytes).map_err(|error| error.to_string())
}
