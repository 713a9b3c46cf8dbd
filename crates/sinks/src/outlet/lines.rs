//! JSON lines, on standard output and on sockets.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bulkhead_export::{Exported, Format};

use super::stream::{self, GRACE};
use super::{Failure, Outlet, Sent, all};

fn lines(records: &[Exported], format: Format) -> Vec<u8> {
    let mut lines = Vec::new();
    for exported in records {
        lines.append(&mut exported.line(format));
        lines.push(b'\n');
    }
    lines
}

/// Standard output.
pub(crate) struct Stdout {
    format: Format,
}

impl Stdout {
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }
}

impl Outlet for Stdout {
    fn send(&mut self, records: &[Exported]) -> Result<Sent, Failure> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(&lines(records, self.format))?;
        stdout.flush()?;
        Ok(all(records))
    }
}

/// A Unix stream socket.
pub(crate) struct Socket {
    stream: UnixStream,
    format: Format,
}

impl Socket {
    pub(crate) fn connect(path: &Path, format: Format) -> io::Result<Self> {
        Ok(Self { stream: stream::connect_unix(path)?, format })
    }
}

impl Outlet for Socket {
    fn send(&mut self, records: &[Exported]) -> Result<Sent, Failure> {
        self.stream.write_all(&lines(records, self.format))?;
        Ok(all(records))
    }

    fn grace(&self) -> Duration {
        GRACE
    }

    fn check(&mut self) -> io::Result<()> {
        stream::check(&mut self.stream)
    }

    fn finish(&mut self, limit: Duration) -> io::Result<()> {
        stream::finish(&mut self.stream, limit)
    }
}
