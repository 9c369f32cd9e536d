//! GET /events: the live stream. `snapshot` on connect and on change (the first change at once, then at most four a
//! second), `settings` on connect and on change, `sample` once a second, `ledger` for each new event; comments keep it
//! open; it ends on drain.
//! A slow reader misses samples and delays nobody: each stream holds one pending event at most.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{StreamExt, stream};
use manager::Desk;
use protocol::{LedgerEvent, Sample, Settings};
use tokio::{
    sync::{broadcast, watch},
    time::{Instant, sleep_until},
};

use crate::compose::House;

/// At most four snapshots a second.
const PAUSE: Duration = Duration::from_millis(250);

struct Live {
    desk: Desk,
    changes: watch::Receiver<u64>,
    samples: watch::Receiver<Arc<Sample>>,
    ledger: broadcast::Receiver<Arc<LedgerEvent>>,
    settings: watch::Receiver<Arc<Settings>>,
    /// The number of the last event that was sent. Snapshots and samples come from two places; what is older than what
    /// was sent is of no use any more.
    sent: u64,
    greeted: bool,
    quiet_until: Instant,
}

/// The handler. `Last-Event-ID` needs no replay: the stream begins with everything that is so now.
pub(crate) async fn events(State(house): State<House>, headers: HeaderMap) -> Response {
    let desk = house.desk().clone();
    let presence = house.presence(&headers);
    let mut settings = house.settings().follow();
    settings.mark_changed();
    let live = Live {
        settings,
        changes: desk.changes(),
        samples: desk.samples(),
        ledger: desk.ledger(),
        sent: 0,
        greeted: false,
        quiet_until: Instant::now(),
        desk,
    };
    let stream = stream::once(async { Ok(Event::default().retry(Duration::from_secs(1))) })
        .chain(stream::unfold((live, presence), |(mut live, presence)| async move {
            let event = live.next().await?;
            Some((Ok::<_, Infallible>(event), (live, presence)))
        }))
        .take_until(house.draining().clone().cancelled_owned());
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(10)).text("keep-alive");
    ([("x-accel-buffering", "no"), ("cache-control", "no-store")], Sse::new(stream).keep_alive(keep_alive))
        .into_response()
}

impl Live {
    async fn next(&mut self) -> Option<Event> {
        if !self.greeted {
            self.greeted = true;
            self.changes.mark_unchanged();
            return self.snapshot();
        }
        loop {
            tokio::select! {
                biased;
                event = self.ledger.recv() => match event {
                    Ok(event) => return self.told("ledger", self.desk.snapshot().sequence, &*event),
                    // Events that this reader was too slow for stand in the history.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                changed = self.settings.changed() => {
                    changed.ok()?;
                    let settings = self.settings.borrow_and_update().clone();
                    return self.told("settings", self.desk.snapshot().sequence, &*settings);
                }
                changed = settled(&mut self.changes, self.quiet_until) => {
                    changed?;
                    self.quiet_until = Instant::now() + PAUSE;
                    return self.snapshot();
                }
                changed = self.samples.changed() => {
                    changed.ok()?;
                    let sample = self.samples.borrow_and_update().clone();
                    if sample.sequence >= self.sent {
                        return self.told("sample", sample.sequence, &*sample);
                    }
                }
            }
        }
    }

    fn snapshot(&mut self) -> Option<Event> {
        let snapshot = self.desk.snapshot();
        self.told("snapshot", snapshot.sequence, &*snapshot)
    }

    fn told<T: serde::Serialize>(&mut self, name: &str, sequence: u64, data: &T) -> Option<Event> {
        self.sent = self.sent.max(sequence);
        Event::default().event(name).id(self.sent.to_string()).json_data(data).ok()
    }
}

/// Waits for a change, then until the pause after the last one is over, so that the last state is never lost.
async fn settled(changes: &mut watch::Receiver<u64>, quiet_until: Instant) -> Option<()> {
    while !changes.has_changed().ok()? {
        // Not marked as seen until the pause is over: this future may be dropped in between.
        changes.clone().changed().await.ok()?;
    }
    sleep_until(quiet_until).await;
    changes.mark_unchanged();
    Some(())
}
