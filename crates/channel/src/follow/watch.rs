//! The task that knows the head: by news, and by asking.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Shared;
use crate::client::{Client, State};
use crate::error::Result;
use crate::head::Head;
use crate::jetstream::last;
use crate::layout::{FILES, HEAD, NEWS};

/// Between two questions, in milliseconds, unless a connection is new.
const BETWEEN: std::ops::Range<u64> = 30_000..60_000;

/// The pause after a question that was not answered, in milliseconds.
const AGAIN: std::ops::Range<u64> = 500..2_000;

/// How many times in a row an older head is passed over. A server whose copy lags says it once or twice; one that says
/// it for minutes has lost the newer one.
const OLDER: u32 = 3;

/// Heads that wait to be read, of which the last is.
const WAITING: usize = 4;

/// Between two heads that are read of the news. Whoever floods keeps no host busy.
const REST: Duration = Duration::from_secs(1);

/// Follows for ever.
pub(super) async fn follow(client: Client, shared: Arc<Shared>) {
    let mut state = client.state();
    let Ok(mut news) = client.subscribe(NEWS, WAITING).await else { return };
    let mut connection = 0;
    let mut next = Instant::now();
    let mut rested = Instant::now();
    loop {
        let is_due = matches!(*state.borrow(), State::Connected(_));
        tokio::select! {
            message = rest_and(rested, news.recv()) => {
                let Some(mut message) = message else { return };
                let mut count = 1;
                while let Ok(later) = news.try_recv() {
                    (message, count) = (later, count + 1);
                }
                // More may have come than there was room for.
                if count >= WAITING {
                    next = Instant::now();
                }
                // Anything else is an answer that somebody has had sent here.
                if message.status.is_none() && message.header("Nats-Subject") == Some(HEAD) {
                    take(&shared, &message.payload);
                }
                rested = Instant::now() + REST;
            },
            changed = state.changed() => {
                if changed.is_err() {
                    return;
                }
                match *state.borrow_and_update() {
                    State::Connected(number) if number != connection => {
                        connection = number;
                        next = Instant::now();
                    }
                    _ => {}
                }
            },
            () = sleep_until(next), if is_due => {
                let pause = match ask(&client, &shared).await {
                    Ok(()) => fastrand::u64(BETWEEN),
                    Err(error) => {
                        tracing::debug!("{error}");
                        fastrand::u64(AGAIN)
                    }
                };
                next = Instant::now() + Duration::from_millis(pause);
            }
        }
    }
}

/// Waits until then, and for a message.
async fn rest_and<T>(until: Instant, message: impl Future<Output = T>) -> T {
    sleep_until(until).await;
    message.await
}

/// Asks for the head.
async fn ask(client: &Client, shared: &Shared) -> Result<()> {
    let answer = last(client, FILES, HEAD).await;
    if answer.is_ok() {
        shared.count(|counts| counts.heads += 1);
    }
    match &answer {
        Ok(Some(stored)) => take(shared, &stored.payload),
        Ok(None) => {
            let nothing = "the broker has no files of a fleet yet: `bulkhead fleet push` puts them there";
            shared.known().problem = Some(nothing.to_owned());
        }
        Err(error) => shared.known().problem = Some(error.to_string()),
    }
    shared.asked.send_modify(|count| *count += 1);
    answer.map(drop)
}

/// A head that came.
fn take(shared: &Shared, message: &[u8]) {
    let read = Head::read(message);
    let mut known = shared.known();
    let head = match read {
        Ok(head) => head,
        Err(error) => {
            known.problem = Some(error.to_string());
            return;
        }
    };
    let before = known.head.as_ref().map(|head| head.made);
    known.problem = None;
    known.said = Some(Instant::now());
    if before == Some(head.made) && known.head.as_deref() == Some(&head) {
        known.older = 0;
        return;
    }
    if before.is_some_and(|before| head.made < before) {
        known.older += 1;
        if known.older < OLDER {
            return;
        }
    }
    known.older = 0;
    known.head = Some(Arc::new(head));
    drop(known);
    shared.news.notify_one();
}
