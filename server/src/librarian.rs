//! Keeps the manager's shelf true to the models folder: reads the folder again and again, has a short-lived worker
//! inspect what is new, and tells the manager what is there. The server itself never parses a model file.

mod doubts;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use link::Facts;
use manager::{
    Desk, join_lessons,
    ports::{Expectation, Shelf, ShelfModel},
};
use protocol::{Code, Lesson, ModelId, ModelKind, Problem};
use store::{FactsCache, ModelKey, OnShelf, Store};
use supervisor::Supervisor;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use crate::{config::ModelConfig, digests::Digests, settings};
use doubts::Doubts;

/// Between two looks at the folder when nobody asks.
const LOOK: Duration = Duration::from_secs(2);
/// A chat model gets at most so many positions unless it is configured otherwise.
pub(crate) const CONTEXT: u32 = 8192;

/// Asks the librarian to look again.
#[derive(Clone)]
pub(crate) struct Librarian {
    asks: mpsc::Sender<Asked>,
    unsure: watch::Receiver<BTreeSet<ModelId>>,
}

/// Somebody waits for a look.
struct Asked {
    /// Who wants to use a model does not wait until its files may be tried again.
    about: Option<ModelId>,
    done: oneshot::Sender<()>,
}

impl Librarian {
    /// Looks again, and returns when the manager knows what is there.
    pub(crate) async fn look(&self) {
        self.ask(None).await;
    }

    /// Somebody wants to use this model: if its files could not be looked into, that is tried again, now.
    pub(crate) async fn make_sure(&self, model: &ModelId) {
        let unsure = self.unsure.borrow().contains(model);
        if unsure {
            self.look_for(model).await;
        }
    }

    /// Looks again for somebody who wants to use a model that may be new. A look at its files that is under way and comes to
    /// nothing is not the answer: another follows.
    pub(crate) async fn look_for(&self, model: &ModelId) {
        self.ask(Some(model.clone())).await;
    }

    async fn ask(&self, about: Option<ModelId>) {
        let (done, seen) = oneshot::channel();
        if self.asks.send(Asked { about, done }).await.is_ok() {
            // Ends with an error only when the librarian is gone, and then the server is stopping.
            let _ = seen.await;
        }
    }
}

/// What is in files, or why they cannot be used, as far as a worker has looked.
pub(crate) type KnownFacts = FactsCache<Result<Facts, Problem>>;

/// What the librarian works with.
pub(crate) struct Desks {
    pub(crate) store: Arc<Store>,
    pub(crate) facts: Arc<KnownFacts>,
    /// What loads have taught, kept over restarts.
    pub(crate) lessons: FactsCache<Vec<Lesson>>,
    pub(crate) supervisor: Supervisor,
    pub(crate) desk: Desk,
    /// What single models have of their own is asked at each look: it may have been saved since the last one.
    pub(crate) settings: Arc<settings::Shelf>,
}

/// The librarian and its work, which the caller runs.
pub(crate) fn open(desks: Desks) -> (Librarian, impl Future<Output = ()> + Send) {
    let (asks, asked) = mpsc::channel(16);
    let (tell, unsure) = watch::channel(BTreeSet::new());
    (Librarian { asks, unsure }, work(desks, asked, tell))
}

async fn work(desks: Desks, mut asked: mpsc::Receiver<Asked>, unsure: watch::Sender<BTreeSet<ModelId>>) {
    let mut digests = Digests::open(&desks.store);
    let mut told: Option<Vec<ShelfModel>> = None;
    let mut waiting: Vec<Asked> = Vec::new();
    let mut lessons = desks.desk.lessons();
    let mut there: Vec<ModelKey> = Vec::new();
    let mut doubts = Doubts::default();
    loop {
        // While the folder cannot be read (no descriptor is left, its disk is away), those stay who were there.
        if let Some(found) = scan(&desks).await {
            there = found.iter().map(|one| one.key.clone()).collect();
            digests.look(&found, &desks.lessons, &desks.desk);
            doubts.keep(&there);
            let wanted: BTreeSet<ModelId> = waiting.iter().filter_map(|one| one.about.clone()).collect();
            let mut look = Look {
                desks: &desks,
                digests: &digests,
                there: &there,
                wanted: &wanted,
                doubts: &mut doubts,
            };
            let (shelf, open) = look.shelf(found).await;
            unsure.send_if_modified(|before| std::mem::replace(before, open.clone()) != open);
            if told.as_ref() != Some(&shelf) {
                desks.desk.stock(shelf.clone()).await;
                told = Some(shelf);
            }
            keep(&desks, &digests, &lessons.borrow_and_update().clone(), &there);
        }
        for one in waiting.drain(..) {
            let _ = one.done.send(());
        }
        tokio::select! {
            one = asked.recv() => match one {
                Some(one) => waiting.push(one),
                None => return,
            },
            news = lessons.changed() => match news {
                Ok(()) => keep(&desks, &digests, &lessons.borrow_and_update().clone(), &there),
                Err(_) => return,
            },
            () = digests.news(&there) => {}
            () = sleep_until(Instant::now() + LOOK) => {}
        }
        // All who ask by now are served by one look.
        while let Ok(more) = asked.try_recv() {
            waiting.push(more);
        }
    }
}

/// Keeps what was learned since. Files with the same contents have taught together.
fn keep(desks: &Desks, digests: &Digests, lessons: &BTreeMap<String, Vec<Lesson>>, there: &[ModelKey]) {
    let mut by_name = BTreeMap::<String, Vec<Lesson>>::new();
    for key in there {
        if let Some(learned) = lessons.get(&key.text()) {
            join_lessons(by_name.entry(digests.name(key)).or_default(), learned);
        }
    }
    let there: Vec<String> = there.iter().map(|key| digests.name(key)).collect();
    for (name, mut learned) in by_name {
        let kept = desks.lessons.get(&name);
        join_lessons(&mut learned, kept.as_deref().unwrap_or_default());
        if kept.as_ref() == Some(&learned) {
            continue;
        }
        if let Err(error) = desks.lessons.put(&name, learned, &there) {
            tracing::debug!("what was learned of a model is not kept: {error}");
        }
    }
}

async fn scan(desks: &Desks) -> Option<Vec<OnShelf>> {
    let store = desks.store.clone();
    let scanned = tokio::task::spawn_blocking(move || store.scan()).await.ok()?;
    let failed = |error: &_| tracing::warn!("the models folder cannot be read: {error}");
    Some(scanned.inspect_err(failed).ok()?.models)
}

/// One look at what is in the folder.
struct Look<'a> {
    desks: &'a Desks,
    digests: &'a Digests,
    there: &'a [ModelKey],
    /// Models that somebody wants to use now.
    wanted: &'a BTreeSet<ModelId>,
    doubts: &'a mut Doubts,
}

impl Look<'_> {
    /// What is there, and of which models nobody knows yet what is in their files.
    async fn shelf(&mut self, found: Vec<OnShelf>) -> (Vec<ShelfModel>, BTreeSet<ModelId>) {
        let (mut shelf, mut unsure) = (Vec::with_capacity(found.len()), BTreeSet::new());
        let config = self.desks.settings.config();
        for one in found {
            let facts = match one.trouble {
                Some(_) => None,
                None => Some(self.facts(&one).await),
            };
            if self.doubts.hold(&one.key) {
                unsure.insert(one.id.clone());
            }
            // The manager knows better what it has seen itself, and takes over the rest.
            let lessons = self.desks.lessons.get(&self.digests.name(&one.key)).unwrap_or_default();
            let own = config.of_model(&one.id);
            shelf.push(entry(one, facts, lessons, own));
        }
        (shelf, unsure)
    }

    /// What is in the files, from the cache or from a short-lived worker.
    async fn facts(&mut self, found: &OnShelf) -> Result<Facts, Problem> {
        let name = found.key.text();
        if let Some(known) = self.desks.facts.get(&name) {
            return known;
        }
        let too_early = self.doubts.too_early(&found.key).filter(|_| !self.wanted.contains(&found.id));
        if let Some(problem) = too_early {
            return Err(problem);
        }
        let files = self.desks.store.open(&found.id)?;
        let facts = self.desks.supervisor.inspect(files).await;
        match &facts {
            // A refusal for what is in the file stays true as long as the file does; a fault of ours does not.
            Err(problem) if problem.code != Code::UnsupportedModel => {
                self.doubts.add(&found.key, problem.clone());
            }
            _ => {
                self.doubts.settle(&found.key);
                let there: Vec<String> = self.there.iter().map(ModelKey::text).collect();
                if let Err(error) = self.desks.facts.put(&name, facts.clone(), &there) {
                    tracing::debug!("facts about {} are not kept: {error}", found.id);
                }
            }
        }
        facts
    }
}

fn entry(
    found: OnShelf,
    facts: Option<Result<Facts, Problem>>,
    lessons: Vec<Lesson>,
    own: ModelConfig,
) -> ShelfModel {
    let (facts, trouble) = match facts {
        None => (None, found.trouble),
        Some(Ok(facts)) => (Some(facts), None),
        Some(Err(problem)) => (None, Some(problem)),
    };
    ShelfModel {
        kind: facts
            .as_ref()
            .map_or(found.kind, |f| if f.embedding { ModelKind::Embedding } else { ModelKind::Chat }),
        family: facts.as_ref().map(|f| f.family.clone()).unwrap_or_default(),
        quantization: facts.as_ref().map(|f| f.quantization.clone()).unwrap_or_default(),
        size_bytes: found.size_bytes,
        files: found.key.text(),
        lessons,
        expected: facts.as_ref().map(expectation),
        trouble,
        pinned: own.pinned,
        idle_timeout: own.idle_timeout,
        context: own.context,
        weight: own.weight,
        id: found.id,
    }
}

/// What a load takes, as the worker read it in the header.
fn expectation(facts: &Facts) -> Expectation {
    let print = facts.footprint;
    Expectation {
        weights_bytes: print.weights_bytes,
        runtime_bytes: print.runtime_bytes,
        kv_bytes_per_token: print.kv_bytes_per_token,
        scratch_bytes: print.scratch_bytes,
        mapped_bytes: print.mapped_bytes,
        // No engine of this build computes on one.
        gpu: None,
        context: CONTEXT,
        longest: facts.context,
    }
}
