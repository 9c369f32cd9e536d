//! Room for so many connections, and who gives up a place when one more wants in: the one that has been silent longest.
//!
//! Silent is who owes us a request: none has come yet, or the last one is answered to its end. Nobody who is in the middle
//! of a request or of its answer is ever asked to go. Knows nothing of what is said.

use std::{
    collections::BTreeMap,
    io, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use hyper::body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};
use tokio_util::sync::CancellationToken;

/// The owner of all places.
pub(crate) struct Room {
    places: Mutex<Places>,
    /// Somebody left, or fell silent: worth another look for who waits.
    changed: Notify,
}

struct Places {
    most: usize,
    taken: usize,
    /// Asked to go and not gone yet.
    leaving: usize,
    /// How often somebody fell silent; in this order they go.
    count: u64,
    /// Who is silent, the longest first, with the way to ask for the place.
    silent: BTreeMap<u64, CancellationToken>,
}

impl Room {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let places = Places { most: most.max(1), taken: 0, leaving: 0, count: 0, silent: BTreeMap::new() };
        Arc::new(Self { places: Mutex::new(places), changed: Notify::new() })
    }

    /// A place, once there is one: where all are taken, the one that has been silent longest is asked for its own. Waits
    /// while nobody is silent. For one caller at a time.
    pub(crate) async fn seat(self: &Arc<Self>) -> Seat {
        loop {
            if let Some(seat) = self.free_seat() {
                return seat;
            }
            self.changed.notified().await;
        }
    }

    fn free_seat(self: &Arc<Self>) -> Option<Seat> {
        let mut places = self.places();
        if places.taken < places.most {
            places.taken += 1;
            let asked = CancellationToken::new();
            let mood = Mood::Silent(places.silence(&asked));
            return Some(Seat { room: Arc::clone(self), asked, mood: Mutex::new(mood) });
        }
        // One who goes is enough for one who comes.
        if places.leaving == 0
            && let Some((_, asked)) = places.silent.pop_first()
        {
            places.leaving += 1;
            asked.cancel();
        }
        None
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        // Nothing in here panics between two changes that belong together.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn silence(&mut self, asked: &CancellationToken) -> u64 {
        self.count += 1;
        self.silent.insert(self.count, asked.clone());
        self.count
    }
}

/// A connection's place, given back when it is dropped.
pub(crate) struct Seat {
    room: Arc<Room>,
    asked: CancellationToken,
    /// Locked before the places, never after them.
    mood: Mutex<Mood>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// Since this count, unless the place has been asked for.
    Silent(u64),
    /// A request is here, or its answer is on the way.
    Speaks,
    /// The answer has ended, and its last bytes may still wait to be written.
    Answered,
}

impl Seat {
    /// Returns when the place is asked for.
    pub(crate) async fn asked_to_go(&self) {
        self.asked.cancelled().await;
    }

    /// A request's head is here. False: it came too late, the place is promised to another.
    #[must_use]
    pub(crate) fn speaks(&self) -> bool {
        let mut mood = self.mood();
        if let Mood::Silent(since) = *mood
            && self.room.places().silent.remove(&since).is_none()
        {
            return false;
        }
        *mood = Mood::Speaks;
        true
    }

    fn answered(&self) {
        *self.mood() = Mood::Answered;
    }

    /// All that there was to write is written.
    fn written(&self) {
        let mut mood = self.mood();
        if *mood == Mood::Answered {
            *mood = Mood::Silent(self.room.places().silence(&self.asked));
            drop(mood);
            self.room.changed.notify_one();
        }
    }

    fn mood(&self) -> MutexGuard<'_, Mood> {
        self.mood.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mood = mem::replace(&mut *self.mood(), Mood::Speaks);
        let mut places = self.room.places();
        places.taken -= 1;
        if let Mood::Silent(since) = mood
            && places.silent.remove(&since).is_none()
        {
            places.leaving -= 1;
        }
        drop(places);
        self.room.changed.notify_one();
    }
}

/// A stream that tells its seat when everything is written.
pub(crate) struct Seated<S> {
    stream: S,
    seat: Arc<Seat>,
}

impl<S> Seated<S> {
    pub(crate) fn new(stream: S, seat: Arc<Seat>) -> Self {
        Self { stream, seat }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Seated<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Seated<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Hyper flushes when its own buffer is empty.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.seat.written();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// An answer's body, which tells its seat when it has ended. Hyper drops it then.
pub(crate) struct Answering<B> {
    body: B,
    seat: Arc<Seat>,
}

impl<B> Answering<B> {
    pub(crate) fn new(body: B, seat: Arc<Seat>) -> Self {
        Self { body, seat }
    }
}

impl<B> Drop for Answering<B> {
    fn drop(&mut self) {
        self.seat.answered();
    }
}

impl<B: Body + Unpin> Body for Answering<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
