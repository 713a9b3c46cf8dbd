//! A request's body that comes at a pace: whoever sends a byte now and then does not hold a request open.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

/// What a body may be waited for at a time. A longer wait that is over counts as so much: it may have been the
/// agent that was stopped.
const AT_A_TIME: Duration = Duration::from_secs(10);

/// What it may be waited for altogether, besides a second for each [`A_SECOND`] of its bytes.
const ALTOGETHER: Duration = Duration::from_secs(30);

/// Bytes that come in a second at least.
const A_SECOND: u64 = 64 << 10;

/// Why a body is given up.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// It comes too slowly.
    #[error("the body comes too slowly: send it again")]
    Slow,
    /// The connection is at fault.
    #[error(transparent)]
    Connection(#[from] hyper::Error),
}

/// A body and how long it was waited for.
#[derive(Debug)]
pub struct Paced<B> {
    body: B,
    waits: Option<(Instant, Pin<Box<Sleep>>)>,
    waited: Duration,
    bytes: u64,
}

impl<B> Paced<B> {
    /// A body that nobody has waited for yet.
    pub const fn new(body: B) -> Self {
        Self { body, waits: None, waited: Duration::ZERO, bytes: 0 }
    }

    /// How long it may be waited for now.
    fn patience(&self) -> Duration {
        let altogether = ALTOGETHER + Duration::from_secs(self.bytes / A_SECOND);
        altogether.saturating_sub(self.waited).min(AT_A_TIME)
    }
}

impl<B: Body<Data = Bytes, Error = hyper::Error> + Unpin> Body for Paced<B> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let paced = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut paced.body).poll_frame(cx) {
            if let Some((since, _)) = paced.waits.take() {
                paced.waited += since.elapsed().min(AT_A_TIME);
            }
            let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            paced.bytes += data.map_or(0, Bytes::len) as u64;
            return Poll::Ready(frame.map(|frame| frame.map_err(Broken::from)));
        }
        let patience = paced.patience();
        let (_, over) = paced.waits.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(patience))));
        ready!(over.as_mut().poll(cx));
        Poll::Ready(Some(Err(Broken::Slow)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::BodyExt as _;
    use tokio::sync::mpsc;

    use super::*;

    /// Pieces as they come.
    struct Pieces(mpsc::Receiver<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = hyper::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
            self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
        }
    }

    /// How a body ends of which a piece of so many bytes comes each time, and after which time by its own clock.
    fn ends(bytes: usize, apart: Duration) -> (Result<usize, String>, Duration) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let (sender, receiver) = mpsc::channel(1);
            tokio::spawn(async move {
                for _ in 0..200 {
                    sleep(apart).await;
                    if sender.send(Bytes::from(vec![0; bytes])).await.is_err() {
                        break;
                    }
                }
                Ok::<_, Infallible>(())
            });
            let began = Instant::now();
            let all = Paced::new(Pieces(receiver)).collect().await;
            (all.map(|all| all.to_bytes().len()).map_err(|error| error.to_string()), began.elapsed())
        })
    }

    #[test]
    fn a_body_comes_at_a_pace_or_not_at_all() {
        assert_eq!(ends(1 << 16, Duration::from_millis(900)).0, Ok(200 << 16));
        assert_eq!(ends(1, Duration::from_millis(100)).0, Ok(200), "a short one may take its time");
        for (bytes, apart) in [(1, Duration::from_secs(1)), (1 << 20, Duration::from_secs(11))] {
            let (end, took) = ends(bytes, apart);
            assert!(end.is_err_and(|error| error.contains("too slowly")), "{apart:?}");
            assert!(took <= Duration::from_secs(31), "{took:?}");
        }
    }
}
