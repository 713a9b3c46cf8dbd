//! Files of a directory that others can write in.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// Reads a regular file, and one byte more than `longest` of it at most. A pipe or a device would be waited for, or read,
/// without end; a link may lead to one.
pub(crate) fn regular(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    let other = || io::Error::other("it is no regular file");
    // Looked at before it is opened, which does something by itself with some devices.
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(other());
    }
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(other());
    }
    let mut bytes = Vec::new();
    file.take(longest.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The same; one that is longer is an error.
pub(crate) fn whole(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    let bytes = regular(path, longest)?;
    if bytes.len() as u64 > longest {
        return Err(io::Error::other(format!("it is longer than {longest} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::whole;

    #[test]
    fn pipes_devices_links_and_what_has_no_end_are_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("file"), "four").unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("zero")).unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        std::fs::create_dir(at("directory")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        for name in ["zero", "link", "directory", "pipe"] {
            let error = whole(&at(name), 10).unwrap_err().to_string();
            assert!(error.contains("no regular file"), "{name}: {error}");
        }
        assert_eq!(whole(&at("file"), 4).unwrap(), b"four");
        assert!(whole(&at("file"), 3).unwrap_err().to_string().contains("longer than 3 bytes"));
    }
}
