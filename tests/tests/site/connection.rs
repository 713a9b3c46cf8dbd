//! An open connection between two hosts of a site.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bulkhead_testkit::lab::slower;

use super::LIMIT;

/// How long bytes may take that are to arrive: TCP may have to send them again.
pub(super) const ARRIVES: Duration = Duration::from_secs(5);
/// How long bytes are waited for that must not arrive; TCP has sent them again twice by then.
pub(super) const SILENCE: Duration = Duration::from_millis(700);

/// Both ends of a TCP connection.
pub struct Connection {
    pub(super) client: TcpStream,
    pub(super) server: TcpStream,
}

impl Connection {
    /// Sends both ways, and says which of them arrives: to the server, to the client.
    fn sent(&mut self, limit: Duration) -> [bool; 2] {
        [(&self.client, &self.server), (&self.server, &self.client)].map(|(mut from, mut to)| {
            to.set_read_timeout(Some(limit)).unwrap();
            from.write_all(b"?").unwrap();
            to.read_exact(&mut [0]).is_ok()
        })
    }

    /// Whether what is sent arrives: at the server, at the client.
    pub fn arrives(&mut self) -> [bool; 2] {
        self.sent(SILENCE)
    }

    #[track_caller]
    pub fn goes_on(&mut self) {
        assert_eq!(self.sent(slower(ARRIVES)), [true, true], "a connection that should go on");
    }

    #[track_caller]
    pub fn is_cut(&mut self) {
        assert_eq!(self.sent(SILENCE), [false, false], "a connection that should be cut");
    }

    /// What was sent in vain arrives after all.
    #[track_caller]
    pub fn is_restored(&mut self) {
        for end in [&self.server, &self.client] {
            let mut end = end;
            // TCP waits for as long again as it has waited already.
            end.set_read_timeout(Some(slower(LIMIT))).unwrap();
            end.read_exact(&mut [0]).unwrap();
        }
        self.goes_on();
    }
}
