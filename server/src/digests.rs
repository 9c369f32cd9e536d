//! Under which name the lessons of files are kept: by what is in them, so that a copy, a move or another date loses nothing,
//! and other contents inherit nothing. Contents are read in the background, one model at a time, once for each identity, and
//! only where it matters: where the files have taught something, or are as large as some that have.

use std::{collections::BTreeSet, thread};

use manager::Desk;
use protocol::{Lesson, ModelState};
use store::{FactsCache, ModelKey, OnShelf, Store};
use tokio::{runtime::Handle, sync::oneshot};

/// Less than everybody's, so that answers and loads go first.
const NICE: i32 = 19;

/// What is known of contents, and the reading that is under way.
pub(crate) struct Digests {
    known: FactsCache<String>,
    /// Not again in this run, whatever came of it.
    tried: BTreeSet<String>,
    reading: Option<(ModelKey, oneshot::Receiver<Option<String>>)>,
}

impl Digests {
    pub(crate) fn open(store: &Store) -> Self {
        // Contents do not depend on who reads them, so these outlive every build.
        let known = FactsCache::open(store, "digests", "sha256");
        Self { known, tried: BTreeSet::new(), reading: None }
    }

    /// Under which name lessons of these files are kept: by contents where they are known, until then by identity.
    pub(crate) fn name(&self, key: &ModelKey) -> String {
        let identity = key.text();
        match self.known.get(&identity) {
            Some(digest) => format!("{}{digest}", of_size(key)),
            None => identity,
        }
    }

    /// Begins to read one of the models of which it should be known what is in them, unless one is being read.
    pub(crate) fn look(&mut self, found: &[OnShelf], lessons: &FactsCache<Vec<Lesson>>, desk: &Desk) {
        if self.reading.is_some() {
            return;
        }
        let taught = desk.lessons().borrow().clone();
        let wanted = |one: &&OnShelf| {
            let identity = one.key.text();
            self.known.get(&identity).is_none()
                && !self.tried.contains(&identity)
                && one.trouble.is_none()
                && (taught.contains_key(&identity) || lessons.knows(&of_size(&one.key)))
        };
        let Some(one) = found.iter().find(wanted).cloned() else { return };
        self.tried.insert(one.key.text());
        let (said, digest) = oneshot::channel();
        let (key, desk, runtime) = (one.key.clone(), desk.clone(), Handle::current());
        let reader = thread::Builder::new().name("digest".to_owned()).spawn(move || {
            // Where it may not be set, it reads like everybody.
            let _ = rustix::process::setpriority_process(None, NICE);
            // Nobody waits for it when the server stops.
            let _ = said.send(store::digest(&one, &mut || runtime.block_on(between_loads(&desk))));
        });
        match reader {
            Ok(_) => self.reading = Some((key, digest)),
            Err(error) => tracing::debug!("no thread to read a model's contents: {error}"),
        }
    }

    /// Waits until the reading that is under way has come to an end, for ever if there is none. Safe to be dropped.
    pub(crate) async fn news(&mut self, there: &[ModelKey]) {
        let Some((key, digest)) = &mut self.reading else { return std::future::pending().await };
        let digest = digest.await.ok().flatten();
        let (identity, there): (_, Vec<String>) = (key.text(), there.iter().map(ModelKey::text).collect());
        self.reading = None;
        let Some(digest) = digest else { return };
        if let Err(error) = self.known.put(&identity, digest, &there) {
            tracing::debug!("the digest of a model is not kept: {error}");
        }
    }
}

/// How the names begin of lessons of files that are as large.
fn of_size(key: &ModelKey) -> String {
    format!("sha256-{}-", key.0.iter().map(|file| file.size).sum::<u64>())
}

/// Waits while a model is being loaded. Whether the manager is still there.
async fn between_loads(desk: &Desk) -> bool {
    let mut changes = desk.changes();
    while desk.snapshot().models.iter().any(|model| model.state == ModelState::Loading) {
        if changes.changed().await.is_err() {
            return false;
        }
    }
    changes.has_changed().is_ok()
}
