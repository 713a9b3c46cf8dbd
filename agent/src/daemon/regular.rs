//! Reading the files that an agent is configured with: regular ones, in bounded time.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use bulkhead_policy::source::Source;
use zeroize::Zeroizing;

use crate::exit::Usage;
use crate::input::{LONGEST, missing, read_file};

/// How long a file may take that an agent reads, which makes no other change meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads a file for an agent: a regular one, that answers. A pipe or a file system that hangs must not keep a
/// policy from going back that is not confirmed.
///
/// # Errors
/// What to do.
pub fn read(path: &Path) -> Result<Source, Usage> {
    let (sender, answer) = mpsc::channel();
    let of = path.to_owned();
    let read = move || sender.send(open_regular(&of).and_then(|file| read_file(file, &of, LONGEST)));
    let fail = |why: &str| Usage(format!("cannot read {}: {why}", path.display()));
    std::thread::Builder::new()
        .name("read".to_owned())
        .spawn(read)
        .map_err(|error| fail(&error.to_string()))?;
    answer.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        Err(fail(&format!("it does not answer within {} s; name a file on a local disk", PATIENCE.as_secs())))
    })
}

/// The same for bytes, which are wiped once they are not needed: a key may be among them.
///
/// # Errors
/// Why not.
pub fn read_bytes(path: &Path, longest: u64) -> Result<Zeroizing<Vec<u8>>, String> {
    let (sender, answer) = mpsc::channel();
    let of = path.to_owned();
    let read = move || {
        let file = open_regular(&of).map_err(|error| error.0)?;
        let length = file.metadata().map_err(|error| error.to_string())?.len();
        if length > longest {
            return Err(format!("it is longer than {longest} bytes"));
        }
        // As large as it gets, so that no copy is left behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(length as usize + 1));
        file.take(length).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    };
    std::thread::Builder::new()
        .name("read".to_owned())
        .spawn(move || sender.send(read()))
        .map_err(|error| error.to_string())?;
    answer
        .recv_timeout(PATIENCE)
        .unwrap_or_else(|_| Err(format!("it does not answer within {} s", PATIENCE.as_secs())))
}

/// Opens a regular file, without waiting for whoever writes to a pipe.
fn open_regular(path: &Path) -> Result<File, Usage> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let (found, file) = file.and_then(|file| Ok((file.metadata()?, file))).map_err(missing(path))?;
    if found.is_file() {
        return Ok(file);
    }
    Err(Usage(format!(
        "cannot read {}: it is no regular file; the agent reads it by its name, also later",
        path.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_waits_for_no_pipe() {
        let directory = std::env::temp_dir().join(format!("bulkhead-pipe-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let pipe = directory.join("policy");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        for path in [&*pipe, Path::new("/dev/zero"), Path::new("/")] {
            let error = read(path).map(|_| ()).unwrap_err();
            assert!(error.0.contains("no regular file"), "{}", error.0);
        }
        let file = directory.join("file");
        std::fs::write(&file, "{}").unwrap();
        assert_eq!(read_bytes(&file, 2).map(|bytes| bytes.to_vec()), Ok(b"{}".to_vec()));
        assert!(read_bytes(&file, 1).unwrap_err().contains("longer"));
        assert!(read_bytes(&pipe, 9).unwrap_err().contains("no regular file"));
        assert_eq!(read(&file).map(|source| source.text().to_owned()).unwrap(), "{}");
        assert!(read(&directory.join("none")).map(|_| ()).unwrap_err().0.contains("existing file"));
        std::fs::remove_dir_all(directory).unwrap();
    }
}
