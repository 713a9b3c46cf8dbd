//! Files of a directory that others can write in.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

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
    read_most(file, longest)
}

/// Reads a regular file below a directory, `longest` bytes at most, without following any link on the way: whoever can write
/// there would have whoever reads hand on any file of theirs, such as a key.
///
/// # Errors
/// If it is no such file, is longer, or cannot be read.
pub fn below(directory: &Path, path: &str, longest: u64) -> io::Result<Vec<u8>> {
    let root = openat(CWD, directory, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let open = |flags: OFlags| {
        let way = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let opened = openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), way);
        opened.map(File::from).map_err(|error| match error {
            Errno::LOOP | Errno::XDEV => io::Error::other("it is a link, or behind one"),
            error => error.into(),
        })
    };
    let is_regular = |file: &File| match file.metadata()?.is_file() {
        true => Ok(()),
        false => Err(io::Error::other("it is no regular file")),
    };
    // Looked at before it is opened, as above.
    is_regular(&open(OFlags::PATH)?)?;
    let file = open(OFlags::RDONLY | OFlags::NONBLOCK)?;
    is_regular(&file)?;
    bounded(read_most(file, longest)?, longest)
}

fn read_most(file: File, longest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(longest.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn bounded(bytes: Vec<u8>, longest: u64) -> io::Result<Vec<u8>> {
    if bytes.len() as u64 > longest {
        return Err(io::Error::other(format!("it is longer than {longest} bytes")));
    }
    Ok(bytes)
}

/// The same as [`regular`]; one that is longer is an error.
pub(crate) fn whole(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    bounded(regular(path, longest)?, longest)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{below, whole};

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
            let error = below(directory.path(), name, 10).unwrap_err().to_string();
            assert!(error.contains("no regular file") || error.contains("it is a link"), "{name}: {error}");
        }
        // Behind a link on the way, and above.
        std::fs::write(at("directory/inner"), "four").unwrap();
        std::os::unix::fs::symlink("directory", at("other")).unwrap();
        assert_eq!(below(directory.path(), "directory/inner", 4).unwrap(), b"four");
        for path in ["other/inner", "directory/../../x", "/etc/hostname"] {
            let error = below(directory.path(), path, 10).unwrap_err().to_string();
            assert!(error.contains("behind one"), "{path}: {error}");
        }
        assert!(below(directory.path(), "file", 3).unwrap_err().to_string().contains("longer than 3 bytes"));
        assert_eq!(whole(&at("file"), 4).unwrap(), b"four");
        assert!(whole(&at("file"), 3).unwrap_err().to_string().contains("longer than 3 bytes"));
    }
}
