//! Answers dropped packets whose senders are to be told: segments to no connection of this host by a reset, as its
//! kernel would if it got them (docs/decisions/0028), and what the policy rejects (docs/decisions/0055). Who waits
//! in vain learns of it at once.

mod packet;
mod translated;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bulkhead_abi::{AnswerRequest, to_ip};
use bulkhead_dataplane::{Answers, Pins};
use rustix::event::{PollFd, PollFlags, poll};

use self::packet::{Answer, Sender, Word};
use self::translated::Translated;
use crate::daemon::clock::boot_time;

/// Answers in one [`INTERVAL`], whoever asks: 4,000 a second. Others wait in the ring.
const MOST: u32 = 400;
const INTERVAL: Duration = Duration::from_millis(100);

/// What has waited for longer is not answered any more, ns: its sender has sent again, or another agent was to answer it.
const STALE: u64 = 1_000_000_000;

/// Begins to answer on a thread of its own, in the caller's network namespace. Where the system does not let
/// it, that is told, and nothing is answered.
///
/// # Errors
/// If the ring is not there, or there can be no further thread.
pub fn start(pins: &Pins) -> anyhow::Result<()> {
    let requests = Answers::open(pins)?;
    let sender = match Sender::open() {
        Ok(sender) => sender,
        Err(error) => {
            tracing::warn!(
                "packets whose senders are to be told are dropped and not answered: opening a raw \
                 socket: {error}; run as root, or with CAP_NET_RAW"
            );
            return Ok(());
        }
    };
    let run = move || run(requests, &sender);
    std::thread::Builder::new()
        .name("answers".to_owned())
        .spawn(run)
        .context("starting a thread for answers")?;
    Ok(())
}

fn run(mut requests: Answers, sender: &Sender) {
    let mut translated = Translated::default();
    let mut pace = Pace { since: Instant::now(), count: 0 };
    loop {
        if let Err(error) = poll(&mut [PollFd::new(&requests, PollFlags::IN)], None)
            && error != rustix::io::Errno::INTR
        {
            tracing::error!("waiting for packets to answer: {error}; start the agent again");
            return;
        }
        while let Some(request) = requests.take() {
            if boot_time().saturating_sub(request.time) > STALE {
                continue;
            }
            pace.wait();
            if let Err(error) = answer(&request, sender, &mut translated) {
                tracing::debug!(
                    from = %to_ip(&request.source),
                    to = %to_ip(&request.destination),
                    "a packet is not answered: {error:#}"
                );
            }
        }
    }
}

/// Answers one, unless it may be of an open connection that this host forwards, whose addresses it translates.
fn answer(request: &AnswerRequest, sender: &Sender, translated: &mut Translated) -> anyhow::Result<()> {
    let Some(answer) = Answer::to(request) else { return Ok(()) };
    if matches!(answer.word, Word::Forgotten(_))
        && translated.has(answer.to, answer.from).context("asking for translated connections")?
    {
        return Ok(());
    }
    sender.send(&answer)
}

/// What has been answered in this interval.
struct Pace {
    since: Instant,
    count: u32,
}

impl Pace {
    /// Waits until another may be answered, and counts it.
    fn wait(&mut self) {
        if self.count == MOST {
            std::thread::sleep(INTERVAL.saturating_sub(self.since.elapsed()));
        }
        if self.since.elapsed() >= INTERVAL {
            *self = Self { since: Instant::now(), count: 0 };
        }
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{INTERVAL, MOST, Pace};

    #[test]
    fn answers_are_bounded_and_the_first_are_not_kept_waiting() {
        let started = Instant::now();
        let mut pace = Pace { since: started, count: 0 };
        (0..MOST).for_each(|_| pace.wait());
        assert!(started.elapsed() < INTERVAL);
        pace.wait();
        assert!(started.elapsed() >= INTERVAL);
        (1..MOST).for_each(|_| pace.wait());
        pace.wait();
        assert!(started.elapsed() >= 2 * INTERVAL);
        // A pause saves nothing up.
        std::thread::sleep(3 * INTERVAL);
        let resumed = Instant::now();
        (0..=MOST).for_each(|_| pace.wait());
        assert!(resumed.elapsed() >= INTERVAL - Duration::from_millis(10));
    }
}
