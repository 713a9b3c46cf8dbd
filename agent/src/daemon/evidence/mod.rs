//! Evidence at intervals: that enforcement was on (coverage), and that every drop is told of (balance).

mod coverage;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use self::coverage::Interval;
use crate::daemon::state::Enforcer;
use crate::daemon::threads;

/// How long a balance is waited for before the next interval begins.
const PATIENCE: Duration = Duration::from_secs(30);

/// Attests at intervals, on a thread of its own.
pub struct Attesting {
    end: Sender<()>,
    thread: JoinHandle<()>,
}

/// Starts to attest, every `[events] attest_seconds`.
///
/// # Errors
/// If the system has no more threads.
pub fn start(enforcer: &Arc<Enforcer>) -> std::io::Result<Attesting> {
    let (end, ended) = channel();
    let enforcer = enforcer.clone();
    let attest = move || attest_until(&enforcer, &ended);
    let thread = std::thread::Builder::new().name("evidence".to_owned()).spawn(attest)?;
    Ok(Attesting { end, thread })
}

impl Attesting {
    /// Attests what is not attested yet, within a limit.
    pub fn end(self, limit: Duration) {
        let Self { end, thread } = self;
        drop(end);
        threads::wait(&thread, limit);
    }
}

fn attest_until(enforcer: &Enforcer, ended: &Receiver<()>) {
    let every = Duration::from_secs(enforcer.setup.config.attest_seconds.into());
    let mut interval = Interval::begin(enforcer);
    loop {
        let is_last = ended.recv_timeout(every) != Err(RecvTimeoutError::Timeout);
        let coverage = interval.close(enforcer);
        enforcer.shared.tell(interval.since(), coverage);
        // Where nothing is enforced any more there are no counters.
        if !enforcer.live().detached && !enforcer.shared.turns.balance(PATIENCE) {
            tracing::warn!("drops are not balanced yet: the event log or the kernel takes long");
        }
        if is_last {
            return;
        }
    }
}
