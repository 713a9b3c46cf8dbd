//! Commands are heard as well when no descriptor is left, and never keep the reserve from those who restore.

use std::io;
use std::time::Duration;

use axum::serve::Listener;
use bulkhead_host::spare;
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

/// Of the reserve's descriptors, commands may have so many.
const OF_RESERVE: usize = 4;

/// While the reserve is lent to others, and for a command that may have gone.
const MOMENT: Duration = Duration::from_millis(5);

/// So many moments the reserve may be lent to others.
const LENT: u32 = 40;

/// After a failure.
const PAUSE: Duration = Duration::from_millis(100);

/// The agent's socket. Who asks when there is no descriptor for him is cut off at once, instead of waiting
/// for nothing.
pub struct Heard(pub UnixListener);

impl Heard {
    /// The next command, by a descriptor of the reserve if there is no other.
    async fn next(&self) -> io::Result<(UnixStream, SocketAddr)> {
        match self.0.accept().await {
            Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {
                let _lent = spare::lend();
                timeout(MOMENT, self.0.accept()).await.map_err(|_| error)?
            }
            heard => heard,
        }
    }
}

/// Whether there is a descriptor for one more command.
async fn is_free() -> bool {
    for _ in 0..LENT {
        match (spare::is_short(), spare::missing()) {
            (false, _) => return true,
            (true, Some(missing)) => return missing <= OF_RESERVE,
            // Others have it.
            (true, None) => sleep(MOMENT).await,
        }
    }
    false
}

impl Listener for Heard {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        loop {
            match self.next().await {
                Ok(heard) if is_free().await => return heard,
                Ok(refused) => {
                    drop(refused);
                    // Takes back what was his.
                    let _ = spare::missing();
                }
                Err(error) => {
                    tracing::debug!("hearing a command: {error}");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
