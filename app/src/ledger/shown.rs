//! The events on an open page.

use std::sync::Arc;

use leptos::{prelude::*, task::spawn_local};
use protocol::LedgerEvent;

use super::Query;
use crate::{Live, fetch, manage::History};

/// So many events stay on a page that is left open; older ones go to the next page.
const MOST: usize = 500;

/// What a page shows of the ledger, newest first.
#[derive(Clone, Copy)]
pub(crate) struct Shown {
    query: StoredValue<Query>,
    events: RwSignal<Vec<Arc<LedgerEvent>>>,
    /// The next page's `after`.
    next: RwSignal<Option<u64>>,
    /// Whether anything was heard of the ledger yet.
    known: RwSignal<bool>,
}

impl Shown {
    /// Begins with what the server gathered, if it did; asks for it otherwise, and again whenever the stream of events
    /// had been interrupted.
    pub(crate) fn new(live: Live, query: Query, history: Option<History>) -> Self {
        let known = history.is_some();
        let History { events, next } = history.unwrap_or(History { events: Vec::new(), next: None });
        let shown = Self {
            query: StoredValue::new(query),
            events: RwSignal::new(events.into_iter().map(Arc::new).collect()),
            next: RwSignal::new(next),
            known: RwSignal::new(known),
        };
        Effect::new(move |before: Option<u32>| {
            let opened = live.opened.get();
            if before.is_some_and(|before| before != opened) || !shown.known.get_untracked() {
                shown.refresh();
            }
            opened
        });
        Effect::new(move |_| live.fresh.with(|fresh| fresh.iter().for_each(|event| shown.add(event))));
        shown
    }

    /// The keys of its rows.
    pub(crate) fn ids(self) -> Vec<String> {
        self.events.with(|events| events.iter().map(|event| event.id.to_string()).collect())
    }

    /// An event by its key.
    pub(crate) fn find(self, id: &str) -> Option<Arc<LedgerEvent>> {
        self.events.with_untracked(|events| events.iter().find(|event| event.id.to_string() == id).cloned())
    }

    /// Whether there is nothing to show, as far as is known.
    pub(crate) fn is_empty(self) -> bool {
        self.known.get() && self.events.with(Vec::is_empty)
    }

    /// Where the next page begins.
    pub(crate) fn next(self) -> Option<u64> {
        self.next.get()
    }

    fn refresh(self) {
        let path = self.query.with_value(Query::path);
        spawn_local(async move {
            let Some(History { events, next }) = fetch::get(&path).await else { return };
            // The page may have been left meanwhile.
            let _ = self.next.try_set(next);
            let _ = self.events.try_set(events.into_iter().map(Arc::new).collect());
            let _ = self.known.try_set(true);
        });
    }

    fn add(self, event: &Arc<LedgerEvent>) {
        let newest = self.events.with_untracked(|events| events.first().map_or(0, |event| event.id));
        if event.id <= newest || !self.query.with_value(|query| query.wants(event)) {
            return;
        }
        self.events.update(|events| {
            events.insert(0, event.clone());
            if events.len() > MOST {
                events.truncate(MOST);
                self.next.set(events.last().map(|event| event.id));
            }
        });
    }
}
