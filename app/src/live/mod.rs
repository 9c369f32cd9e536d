//! What the page knows of the house, kept fresh while it is open.
//!
//! One snapshot, first from the HTML, then from the one event stream; everything on a page is derived from it by
//! memos, so that a sample changes only the cells whose text changed. On the server nothing here ever moves.

mod clock;
mod keys;
mod wire;

use std::{collections::BTreeMap, sync::Arc};

use leptos::prelude::*;
use protocol::{LedgerEvent, Sample, Settings, Snapshot, Time};

use crate::{
    First, Notice, Theme,
    pure::{download::FirstSeen, series::Series},
    words,
};

pub use keys::{SHORTCUTS_OFF, shortcuts_on};

/// Events that a page may be behind with before it misses one.
const FRESH: usize = 64;

/// How fresh the page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// A still picture: no JavaScript, or not yet.
    Still,
    /// Events come.
    Live,
    /// The stream broke and is being opened again.
    Reconnecting,
    /// Nothing was heard for seconds; numbers are old.
    Stale,
}

impl Link {
    /// For `data-link` and the badge.
    pub fn word(self) -> &'static str {
        match self {
            Self::Still => "still",
            Self::Live => "live",
            Self::Reconnecting => "reconnecting",
            Self::Stale => "stale",
        }
    }
}

/// What one page has gathered since it was opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// What models held.
    pub series: Series,
    /// When each download was first seen.
    pub downloads: BTreeMap<String, FirstSeen>,
}

/// The page's knowledge, in the context of every component.
#[derive(Clone, Copy)]
pub struct Live {
    /// The house; read with [`Live::house`].
    snapshot: RwSignal<Arc<Snapshot>>,
    /// This moment by the server's clock; moves once a second in a browser.
    pub now: RwSignal<Time>,
    /// How fresh all this is.
    pub link: RwSignal<Link>,
    /// Since when nothing is heard; `None`: events come.
    pub lost_since: RwSignal<Option<Time>>,
    /// Minutes that this browser's clock is ahead of UTC; `None` before hydration: times are shown in UTC.
    pub zone: RwSignal<Option<i32>>,
    /// What can be set, as it is set now.
    pub settings: RwSignal<Arc<Settings>>,
    /// Where this server is reached.
    pub base_url: RwSignal<String>,
    /// What this page has seen over time.
    seen: RwSignal<Arc<Seen>>,
    /// What just happened, newest last; only the last few.
    pub fresh: RwSignal<Vec<Arc<LedgerEvent>>>,
    /// How often the stream of events was opened: after each interruption something may have been missed.
    pub opened: RwSignal<u32>,
    /// What the last verb said.
    pub said: RwSignal<Option<Notice>>,
    /// What just happened, for the ear.
    pub told: RwSignal<String>,
    /// The theme as chosen.
    pub theme: RwSignal<Theme>,
    /// The version of the server that wrote this page.
    pub version: StoredValue<String>,
}

impl Live {
    /// Knows what the first paint knows.
    pub fn new(first: &First) -> Self {
        let mut series = Series::begun_with(&first.prepared.held);
        series.take(&first.snapshot);
        Self {
            now: RwSignal::new(first.snapshot.at),
            settings: RwSignal::new(Arc::new(first.settings.clone())),
            base_url: RwSignal::new(first.base_url.clone()),
            link: RwSignal::new(Link::Still),
            zone: RwSignal::new(None),
            seen: RwSignal::new(Arc::new(Seen { series, downloads: BTreeMap::new() })),
            lost_since: RwSignal::new(None),
            fresh: RwSignal::new(Vec::new()),
            opened: RwSignal::new(0),
            said: RwSignal::new(first.notice.clone().filter(|notice| !notice.text.is_empty())),
            told: RwSignal::new(String::new()),
            theme: RwSignal::new(first.theme),
            version: StoredValue::new(first.snapshot.server.version.clone()),
            snapshot: RwSignal::new(Arc::new(first.snapshot.clone())),
        }
    }

    /// Starts to listen, once the page is hydrated. Effects run in browsers only.
    pub fn listen(self) {
        Effect::new(move |_| {
            clock::start(self);
            keys::start();
            // Behind a proxy the browser knows better under which name and scheme it came here.
            if let Ok(origin) = window().location().origin() {
                self.base_url.set(origin);
            }
            wire::start(self);
        });
    }

    /// The house as it is known now; whoever reads it follows it.
    pub fn house(self) -> Arc<Snapshot> {
        self.snapshot.get()
    }

    /// The same without following.
    pub fn house_once(self) -> Arc<Snapshot> {
        self.snapshot.get_untracked()
    }

    /// What this page has seen over time.
    pub fn seen(self) -> Arc<Seen> {
        self.seen.get()
    }

    /// A moment as `14:02:31`, or short as `14:02`, in this browser's zone once it is known.
    pub fn clock_text(self, at: Time, short: bool) -> String {
        let write = if short { words::short_clock } else { words::clock };
        match self.zone.get() {
            Some(ahead) => write(at, ahead),
            None => format!("{} UTC", write(at, 0)),
        }
    }

    fn take_snapshot(self, new: Snapshot) {
        // A stream that was opened again may bring what is older than what is known.
        if new.sequence < self.house_once().sequence {
            return;
        }
        clock::heard(self, new.at);
        self.show(new);
    }

    fn take_sample(self, sample: Sample) {
        clock::heard(self, sample.at);
        let mut house = (*self.house_once()).clone();
        apply(&mut house, sample);
        self.show(house);
    }

    fn take_settings(self, settings: Settings) {
        if **self.settings.read_untracked() != settings {
            self.settings.set(Arc::new(settings));
        }
    }

    fn take_event(self, event: LedgerEvent) {
        let told = words::told(&event);
        self.fresh.update(|fresh| {
            fresh.push(Arc::new(event));
            let surplus = fresh.len().saturating_sub(FRESH);
            fresh.drain(..surplus);
        });
        if !told.is_empty() {
            wire::announce(self, told);
        }
    }

    fn show(self, house: Snapshot) {
        let old = self.seen.get_untracked();
        let known = old.downloads.keys().eq(house.downloads.iter().map(|d| &d.reference));
        if !known || old.series.lacks(&house) {
            let mut seen = (*old).clone();
            seen.series.take(&house);
            seen.downloads.retain(|reference, _| house.downloads.iter().any(|d| d.reference == *reference));
            for download in &house.downloads {
                let first = FirstSeen { at_ms: house.at.unix_ms(), done_bytes: download.done_bytes };
                seen.downloads.entry(download.reference.clone()).or_insert(first);
            }
            self.seen.set(Arc::new(seen));
        }
        self.snapshot.set(Arc::new(house));
    }
}

/// Joins a sample to what is known.
fn apply(snapshot: &mut Snapshot, sample: Sample) {
    if sample.sequence < snapshot.sequence {
        return;
    }
    snapshot.sequence = sample.sequence;
    snapshot.at = sample.at;
    snapshot.host = sample.host.or(snapshot.host.take());
    snapshot.requests = sample.requests;
    snapshot.server.private_bytes = sample.server_bytes.or(snapshot.server.private_bytes);
    snapshot.server.spare = sample.spare;
    if !sample.books.is_empty() {
        snapshot.measured_at = Some(sample.at);
        snapshot.books = sample.books;
    }
    for one in sample.models {
        let model = snapshot.models.iter_mut().find(|model| model.id == one.id);
        if let Some(instance) = model.and_then(|model| model.instances.first_mut()) {
            instance.memory = one.memory.or(instance.memory.take());
            instance.tokens_per_second = one.tokens_per_second;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{example, first::nothing_yet};
    use protocol::{Memory, ModelSample, Quality};

    fn sample(sequence: u64, private_bytes: u64) -> Sample {
        let at = Time::from_unix_ms(1000);
        let memory = Memory {
            private_bytes,
            mapped_bytes: 1,
            gpu_bytes: None,
            quality: Quality::Exact,
            measured_at: at,
        };
        let one =
            ModelSample { id: "a".parse().unwrap(), memory: Some(memory), tokens_per_second: Some(9.0) };
        Sample {
            sequence,
            at,
            host: None,
            books: Vec::new(),
            models: vec![one],
            requests: Vec::new(),
            server_bytes: Some(7),
            spare: None,
        }
    }

    #[test]
    fn a_sample_changes_the_numbers_and_nothing_else() {
        let mut snapshot = nothing_yet();
        snapshot.models = vec![example::ready("a", 5), example::ready("b", 6)];
        apply(&mut snapshot, sample(3, 50));
        assert_eq!(crate::pure::held(&snapshot.models[0]), 50);
        assert_eq!(crate::pure::held(&snapshot.models[1]), 6);
        assert_eq!(snapshot.server.private_bytes, Some(7));
        assert_eq!(snapshot.sequence, 3);
    }

    #[test]
    fn a_sample_older_than_what_is_known_is_dropped() {
        let mut snapshot = nothing_yet();
        snapshot.sequence = 9;
        snapshot.models = vec![example::ready("a", 5)];
        apply(&mut snapshot, sample(3, 50));
        assert_eq!(crate::pure::held(&snapshot.models[0]), 5);
    }
}
