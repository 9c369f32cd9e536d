//! Sessions, as the walk sees them: who asked, who looks, and when each of them has to be gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Life, Walk};
use crate::{
    event::{Event, Ticket},
    model::{Record, State},
    ports::Epoch,
    sessions::Hidden,
    tests::rig::id,
};

/// One who uses models or looks at pages. Moments are on the boot clock.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Guest {
    asked: Duration,
    /// A request of theirs came or ended.
    used: Duration,
    /// Pages with a stream.
    pages: u32,
    /// Pages that said that they are hidden, and nothing since.
    hidden: u32,
    /// When it was last seen that no page of either kind is left.
    closed: Option<Duration>,
    requests: u64,
}

impl Guest {
    fn new(now: Duration) -> Self {
        Self { asked: now, used: now, pages: 0, hidden: 0, closed: None, requests: 0 }
    }
}

#[derive(Default)]
pub(super) struct Guests {
    known: BTreeMap<String, Guest>,
    /// Whose each lease is, asked for or held.
    wants: BTreeMap<Ticket, String>,
    /// Those who used an instance and have not gone.
    users: BTreeMap<Epoch, BTreeSet<String>>,
    /// When the last of them went.
    over: BTreeMap<Epoch, Duration>,
    /// Sessions that went by a closed page, and those whose hidden page kept them from that.
    pub(super) closed: usize,
    pub(super) kept: usize,
}

impl Guests {
    pub(super) fn granted(&mut self, ticket: Ticket, epoch: Epoch) {
        if let Some(key) = self.wants.get(&ticket) {
            self.users.entry(epoch).or_default().insert(key.clone());
            self.over.remove(&epoch);
        }
    }

    /// Somebody goes; whoever has a page open stays as somebody new.
    fn gone(&mut self, key: &str, now: Duration) {
        let Some(guest) = self.known.remove(key) else { return };
        if guest.pages > 0 {
            let still = Guest { pages: guest.pages, hidden: guest.hidden, ..Guest::new(now) };
            self.known.insert(key.to_owned(), still);
        }
        for (epoch, users) in &mut self.users {
            if users.remove(key) && users.is_empty() {
                self.over.insert(*epoch, now);
            }
        }
    }
}

impl Walk {
    pub(super) fn guest_asks(&mut self, ticket: Ticket, key: String, model: &str) {
        let now = self.rig.now.boot;
        if !self.stopping && self.rig.house.models.contains_key(&id(model)) {
            let guest = self.guests.known.entry(key.clone()).or_insert_with(|| Guest::new(now));
            (guest.asked, guest.used, guest.requests) = (now, now, guest.requests + 1);
        }
        self.guests.wants.insert(ticket, key);
    }

    pub(super) fn guest_looks(&mut self, key: &str, open: bool) {
        let now = self.rig.now.boot;
        if !open && !self.guests.known.contains_key(key) {
            return;
        }
        let guest = self.guests.known.entry(key.to_owned()).or_insert_with(|| Guest::new(now));
        guest.pages = if open { guest.pages + 1 } else { guest.pages.saturating_sub(1) };
        guest.closed = (guest.pages + guest.hidden == 0).then_some(now);
        self.guests.kept += usize::from(guest.pages == 0 && guest.hidden > 0);
    }

    /// A page of somebody known says that it is hidden, seen again, or gone while it was hidden. While one is hidden, no
    /// closing counts; the last one to go is a closing.
    pub(super) fn guest_hides(&mut self, key: &str, what: Hidden) {
        let now = self.rig.now.boot;
        let Some(guest) = self.guests.known.get_mut(key) else { return };
        match what {
            Hidden::Now => (guest.hidden, guest.closed) = (guest.hidden + 1, None),
            Hidden::NoMore => guest.hidden = guest.hidden.saturating_sub(1),
            Hidden::Gone => {
                guest.hidden = guest.hidden.saturating_sub(1);
                guest.closed = (guest.pages + guest.hidden == 0).then_some(now);
            }
        }
    }

    /// A request of somebody's has ended.
    pub(super) fn guest_rests(&mut self, lease: Ticket) {
        let now = self.rig.now.boot;
        let guest = self.guests.wants.get(&lease).and_then(|key| self.guests.known.get_mut(key));
        if let Some(guest) = guest {
            guest.used = now;
        }
    }

    /// The same for everybody whose worker goes under them.
    pub(super) fn guests_of_rest(&mut self, epoch: Epoch) {
        if self.workers.get(&epoch).is_some_and(|(_, life)| *life == Life::Ready) {
            let leases: Vec<Ticket> =
                self.held.iter().filter(|(_, _, of)| *of == epoch).map(|(lease, _, _)| *lease).collect();
            leases.into_iter().for_each(|lease| self.guest_rests(lease));
        }
    }

    fn is_busy(&self, key: &str) -> bool {
        let theirs = |ticket: &Ticket| self.guests.wants.get(ticket).is_some_and(|of| of == key);
        let serves = |epoch: &Epoch| self.workers.get(epoch).is_some_and(|(_, life)| *life == Life::Ready);
        self.asked.iter().any(theirs)
            || self.held.iter().any(|(lease, _, epoch)| theirs(lease) && serves(epoch))
    }

    /// Those whose time has come go: five minutes (or what is set) after their last request, or half a minute after their
    /// last page closed if they asked for nothing since.
    pub(super) fn guests_go(&mut self) {
        let now = self.rig.now.boot;
        let timeout = self.rig.house.config.session_timeout.ms().map(Duration::from_millis);
        let over = |key: &String, guest: &Guest| {
            let by_rest = timeout.map(|timeout| guest.used + timeout);
            let closed = guest.closed.filter(|closed| *closed >= guest.asked);
            let by_page = closed.map(|closed| closed.max(guest.used) + Duration::from_secs(30));
            let due = by_rest.into_iter().chain(by_page).min();
            guest.pages == 0 && !self.is_busy(key) && due.is_some_and(|due| due <= now)
        };
        let gone: Vec<String> = self
            .guests
            .known
            .iter()
            .filter(|(key, guest)| over(key, guest))
            .map(|(key, _)| key.clone())
            .collect();
        let by_page = |key: &&String| self.guests.known[*key].closed.is_some();
        self.guests.closed += gone.iter().filter(by_page).count();
        gone.iter().for_each(|key| self.guests.gone(key, now));
    }

    /// A person ends a session.
    pub(super) fn end_a_session(&mut self, how: u16) {
        let sessions: Vec<(String, String)> =
            self.rig.house.sessions.iter().map(|(key, session)| (key.clone(), session.id.clone())).collect();
        let Some((key, shown)) = sessions.get(usize::from(how / 7) % sessions.len().max(1)).cloned() else {
            return;
        };
        self.guests.gone(&key, self.rig.now.boot);
        self.ask(None, |ticket| Event::EndSession { ticket, id: shown, by: "walk".to_owned() });
    }

    /// The house knows exactly those whom the walk knows: nobody overdue stays, and nobody who looks, waits or runs
    /// something vanishes. An idle model goes in time after the last of them.
    pub(super) fn look_at_guests(&self) {
        let seen: BTreeMap<&String, (u32, u32, u64)> = self
            .guests
            .known
            .iter()
            .map(|(key, guest)| (key, (guest.pages, guest.hidden, guest.requests)))
            .collect();
        let house: BTreeMap<&String, (u32, u32, u64)> = self
            .rig
            .house
            .sessions
            .iter()
            .map(|(key, session)| (key, (session.pages, session.hidden, session.requests)))
            .collect();
        assert_eq!(house, seen, "sessions, with their open and hidden pages and their requests");
        for record in self.rig.house.models.values() {
            self.look_at_last_guest(record);
        }
    }

    fn look_at_last_guest(&self, record: &Record) {
        let State::Ready(ready) = &record.state else { return };
        let (epoch, config) = (ready.worker.epoch, &self.rig.house.config);
        let may_stay = record.is_pinned() || ready.worker.idle_timeout.is_some() || !ready.is_idle();
        let Some(over) = self.guests.over.get(&epoch).filter(|_| !may_stay) else { return };
        let stays = config.after_last_session.ms().map(Duration::from_millis).expect("it has an end");
        let due = (*over).max(self.rested[&epoch]) + stays;
        let never = record.idle_timeout(config.idle_timeout).ms().is_none();
        assert!(never || self.rig.now.boot < due, "its last session has ended long ago");
    }
}
