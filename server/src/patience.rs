//! How long a peer may keep a connection without taking or bringing anything. A deadline on every wait: a reader that
//! stands is cut, and so is a body that comes too slowly.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::body::{Body, Buf, Frame};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep, sleep_until},
};

/// A reader that takes nothing for so long, although there is something for it, is cut.
const READER: Duration = Duration::from_secs(30);
/// A body has so long to begin with, and a second more for each [`RATE`] bytes that have come.
const BODY: Duration = Duration::from_secs(30);
/// Bytes a second, slower than which no body may be in the long run.
const RATE: u64 = 64 << 10;

/// A stream whose writes fail when the other side has not taken anything for 30 s.
#[derive(Debug)]
pub(crate) struct Patient<S> {
    stream: S,
    /// There while a write waits.
    stands: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, stands: None }
    }

    fn judge<T>(&mut self, cx: &mut Context<'_>, tried: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if tried.is_ready() {
            self.stands = None;
            return tried;
        }
        let stands = self.stands.get_or_insert_with(|| Box::pin(sleep(READER)));
        ready!(stands.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was read for 30 s")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(cx, tried)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.judge(cx, tried)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tried = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(cx, tried)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tried = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.judge(cx, tried)
    }
}

/// A body that fails when it comes too slowly.
#[derive(Debug)]
pub(crate) struct Timely<B> {
    body: B,
    /// From the first time that somebody asked for it.
    begun: Option<(Instant, Pin<Box<Sleep>>)>,
    bytes: u64,
}

impl<B> Timely<B> {
    pub(crate) fn new(body: B) -> Self {
        Self { body, begun: None, bytes: 0 }
    }
}

/// Why a body was given up.
#[derive(Debug, thiserror::Error)]
#[error("the body came too slowly")]
pub(crate) struct TooSlow;

impl<B: Body + Unpin> Body for Timely<B>
where
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = B::Data;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Self { body, begun, bytes } = &mut *self;
        let (begin, deadline) = begun.get_or_insert_with(|| {
            let now = Instant::now();
            (now, Box::pin(sleep_until(now + BODY)))
        });
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            if let Some(Ok(data)) = frame.as_ref().map(|frame| frame.as_ref().map(Frame::data_ref)) {
                *bytes += data.map_or(0, |data| data.remaining() as u64);
                deadline.as_mut().reset(*begin + BODY + Duration::from_secs(*bytes / RATE));
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Some(Err(TooSlow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use futures_util::stream;
    use http_body_util::{BodyExt, StreamBody};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stands_is_cut_after_thirty_seconds() {
        let (ours, _theirs) = duplex(16);
        let begin = Instant::now();
        let error = Patient::new(ours).write_all(&[0; 17]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_that_goes_on_is_not_cut() {
        let (ours, mut theirs) = duplex(16);
        let reading = async move {
            let mut bytes = 0;
            while theirs.read_exact(&mut [0; 8]).await.is_ok() {
                bytes += 8;
                sleep(Duration::from_secs(29)).await;
            }
            bytes
        };
        // The writer closes its end when it is done.
        let writing = async move { Patient::new(ours).write_all(&[0; 160]).await.unwrap() };
        assert_eq!(tokio::join!(reading, writing).0, 160);
    }

    async fn time_of(parts: u32, each: usize, pause: Duration) -> (bool, u64) {
        let parts = stream::unfold(0, move |n| async move {
            sleep(pause).await;
            (n < parts).then(|| (Ok::<_, io::Error>(Frame::data(Bytes::from(vec![0; each]))), n + 1))
        });
        let begin = Instant::now();
        let whole = Timely::new(StreamBody::new(Box::pin(parts))).collect().await;
        (whole.is_ok(), begin.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_dribbles_is_given_up_and_a_large_one_has_its_time() {
        assert_eq!(time_of(1000, 1, Duration::from_secs(9)).await, (false, 30));
        let (whole, secs) = time_of(100, 128 << 10, Duration::from_secs(1)).await;
        assert!(whole && secs > 30, "{whole} after {secs} s");
    }
}
