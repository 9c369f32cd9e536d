//! What happened in this run: the newest events in memory, and their followers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use protocol::LedgerEvent;
use tokio::sync::broadcast;

use crate::desk::{HistoryPage, HistoryQuery};

/// Events that a follower may lag behind.
const FOLLOWED: usize = 256;

/// The ledger. The actor writes, everybody reads; the lock is held for as long as a page is copied.
pub(crate) struct Ledger {
    kept: usize,
    events: Mutex<VecDeque<Arc<LedgerEvent>>>,
    followers: broadcast::Sender<Arc<LedgerEvent>>,
}

impl Ledger {
    pub(crate) fn new(kept: u32) -> Self {
        let kept = usize::try_from(kept).unwrap_or(usize::MAX).max(1);
        Self { kept, events: Mutex::default(), followers: broadcast::channel(FOLLOWED).0 }
    }

    pub(crate) fn follow(&self) -> broadcast::Receiver<Arc<LedgerEvent>> {
        self.followers.subscribe()
    }

    pub(crate) fn write(&self, event: LedgerEvent) {
        let event = Arc::new(event);
        let mut events = self.lock();
        if events.len() == self.kept {
            events.pop_front();
        }
        events.push_back(event.clone());
        drop(events);
        // Nobody follows: that is no failure.
        let _ = self.followers.send(event);
    }

    pub(crate) fn page(&self, wanted: &HistoryQuery) -> HistoryPage {
        let limit = usize::try_from(wanted.limit.max(1)).unwrap_or(usize::MAX);
        let events = self.lock();
        let mut fitting = events.iter().rev().filter(|event| fits(event, wanted));
        let page: Vec<LedgerEvent> = fitting.by_ref().take(limit).map(|event| (**event).clone()).collect();
        let next = fitting.next().and(page.last()).map(|event| event.id);
        HistoryPage { events: page, next }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<LedgerEvent>>> {
        // A reader that panicked has changed nothing.
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fits(event: &LedgerEvent, wanted: &HistoryQuery) -> bool {
    let at = event.at.unix_ms();
    wanted.model.as_ref().is_none_or(|model| event.model.as_ref() == Some(model))
        && wanted.kind.is_none_or(|kind| event.kind == kind)
        && wanted.since_ms.is_none_or(|since| at >= since)
        && wanted.until_ms.is_none_or(|until| at <= until)
        && wanted.after.is_none_or(|after| event.id < after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{EventKind, Time};

    fn event(id: u64, kind: EventKind) -> LedgerEvent {
        LedgerEvent {
            id,
            at: Time::from_unix_ms(i64::try_from(id).unwrap() * 1000),
            kind,
            model: None,
            reason: String::new(),
            asked_by: String::new(),
            duration_ms: None,
            bytes_before: None,
            bytes_after: None,
            receipt: None,
            detail: String::new(),
        }
    }

    fn ids(page: &HistoryPage) -> Vec<u64> {
        page.events.iter().map(|event| event.id).collect()
    }

    #[test]
    fn pages_follow_one_another_newest_first_without_gap_or_overlap() {
        let ledger = Ledger::new(100);
        (1..=10).for_each(|id| ledger.write(event(id, EventKind::Load)));
        let mut wanted = HistoryQuery { limit: 4, ..HistoryQuery::default() };
        let mut seen = Vec::new();
        loop {
            let page = ledger.page(&wanted);
            seen.extend(ids(&page));
            wanted.after = page.next;
            if page.next.is_none() {
                break;
            }
        }
        assert_eq!(seen, (1..=10).rev().collect::<Vec<_>>());
    }

    #[test]
    fn filters_hold_together() {
        let ledger = Ledger::new(100);
        for id in 1..=9 {
            ledger.write(event(id, if id % 2 == 0 { EventKind::Load } else { EventKind::Unload }));
        }
        let page = ledger.page(&HistoryQuery {
            kind: Some(EventKind::Load),
            since_ms: Some(3000),
            until_ms: Some(8000),
            limit: 9,
            ..HistoryQuery::default()
        });
        assert_eq!((ids(&page), page.next), (vec![8, 6, 4], None));
    }

    #[test]
    fn the_oldest_events_make_room_for_new_ones() {
        let ledger = Ledger::new(3);
        (1..=5).for_each(|id| ledger.write(event(id, EventKind::Load)));
        let page = ledger.page(&HistoryQuery { limit: 9, ..HistoryQuery::default() });
        assert_eq!(ids(&page), [5, 4, 3]);
    }

    #[test]
    fn a_follower_gets_what_comes_from_now_on() {
        let ledger = Ledger::new(3);
        ledger.write(event(1, EventKind::Load));
        let mut follower = ledger.follow();
        ledger.write(event(2, EventKind::Load));
        assert_eq!(follower.try_recv().unwrap().id, 2);
        assert!(follower.try_recv().is_err());
    }
}
