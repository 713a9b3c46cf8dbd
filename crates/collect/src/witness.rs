//! The key that a collector cosigns with.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bulkhead_tlog::{Algorithm, SignerKey};

/// The file of the private key in a store, and the one of the public key beside it.
const KEY: &str = "key";
const PUBLIC: &str = "vkey";

/// Reads the key of the store in a directory, or makes one by this name. Its public part is in `vkey`, for whoever
/// verifies.
///
/// # Errors
/// If it cannot be read or written, or is no key for cosignatures.
pub fn witness(directory: &Path, name: &str) -> io::Result<SignerKey> {
    fs::create_dir_all(directory)?;
    let path = directory.join(KEY);
    let key = match fs::read_to_string(&path) {
        Ok(text) => SignerKey::parse(text.trim_end()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = SignerKey::generate(name, Algorithm::Cosignature).map_err(io::Error::other)?;
            let new = path.with_extension("new");
            let _ = fs::remove_file(&new);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(format!("{}\n", key.secret()).as_bytes())?;
            file.sync_all()?;
            fs::rename(new, &path)?;
            Ok(key)
        }
        Err(error) => return Err(error),
    };
    let named = |error| io::Error::other(format!("{}: {error}", path.display()));
    let key = key.map_err(named)?;
    key.public().check_witness().map_err(named)?;
    fs::write(directory.join(PUBLIC), format!("{}\n", key.public()))?;
    Ok(key)
}
