//! Keeps the manager's shelf true to the models folder: reads the folder again and again, has a short-lived worker
//! inspect what is new, and tells the manager what is there. The server itself never parses a model file.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use link::Facts;
use manager::{
    Desk,
    ports::{Expectation, Shelf, ShelfModel},
};
use protocol::{Code, Lesson, ModelId, ModelKind, Problem};
use store::{FactsCache, ModelKey, OnShelf, Store};
use supervisor::Supervisor;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

use crate::config::ModelConfig;

/// Between two looks at the folder when nobody asks.
const LOOK: Duration = Duration::from_secs(2);
/// A chat model gets at most so many positions unless it is configured otherwise.
pub(crate) const CONTEXT: u32 = 8192;

/// Asks the librarian to look again.
#[derive(Clone)]
pub(crate) struct Librarian(mpsc::Sender<oneshot::Sender<()>>);

impl Librarian {
    /// Looks again, and returns when the manager knows what is there.
    pub(crate) async fn look(&self) {
        let (done, seen) = oneshot::channel();
        if self.0.send(done).await.is_ok() {
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
    pub(crate) models: BTreeMap<ModelId, ModelConfig>,
}

/// The librarian and its work, which the caller runs.
pub(crate) fn open(desks: Desks) -> (Librarian, impl Future<Output = ()> + Send) {
    let (ask, asked) = mpsc::channel(16);
    (Librarian(ask), work(desks, asked))
}

async fn work(desks: Desks, mut asked: mpsc::Receiver<oneshot::Sender<()>>) {
    let mut told: Option<Vec<ShelfModel>> = None;
    let mut waiting: Vec<oneshot::Sender<()>> = Vec::new();
    let mut lessons = desks.desk.lessons();
    loop {
        let found = scan(&desks).await;
        let there: Vec<ModelKey> = found.iter().map(|one| one.key.clone()).collect();
        let shelf = shelf(&desks, found, &there).await;
        if told.as_ref() != Some(&shelf) {
            desks.desk.stock(shelf.clone()).await;
            told = Some(shelf);
        }
        for one in waiting.drain(..) {
            let _ = one.send(());
        }
        tokio::select! {
            one = asked.recv() => match one {
                Some(one) => waiting.push(one),
                None => return,
            },
            news = lessons.changed() => match news {
                Ok(()) => keep(&desks, &lessons.borrow_and_update().clone(), &there),
                Err(_) => return,
            },
            () = sleep_until(Instant::now() + LOOK) => {}
        }
        // All who ask by now are served by one look.
        while let Ok(more) = asked.try_recv() {
            waiting.push(more);
        }
    }
}

/// Keeps what was learned since.
fn keep(desks: &Desks, lessons: &BTreeMap<String, Vec<Lesson>>, there: &[ModelKey]) {
    for key in there {
        let Some(learned) = lessons.get(&key.text()) else { continue };
        if desks.lessons.get(key).as_ref() == Some(learned) {
            continue;
        }
        if let Err(error) = desks.lessons.put(key, learned.clone(), there) {
            tracing::debug!("what was learned of a model is not kept: {error}");
        }
    }
}

async fn scan(desks: &Desks) -> Vec<OnShelf> {
    let store = desks.store.clone();
    match tokio::task::spawn_blocking(move || store.scan()).await {
        Ok(Ok(scan)) => scan.models,
        Ok(Err(error)) => {
            tracing::warn!("the models folder cannot be read: {error}");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

async fn shelf(desks: &Desks, found: Vec<OnShelf>, there: &[ModelKey]) -> Vec<ShelfModel> {
    let mut shelf = Vec::with_capacity(found.len());
    for one in found {
        let facts = match one.trouble {
            Some(_) => None,
            None => Some(facts(desks, &one, there).await),
        };
        // Told once, where the files are new: from then on the manager knows better.
        let lessons = desks.lessons.get(&one.key).unwrap_or_default();
        shelf.push(entry(one, facts, lessons, &desks.models));
    }
    shelf
}

/// What is in the files, from the cache or from a short-lived worker.
async fn facts(desks: &Desks, found: &OnShelf, there: &[ModelKey]) -> Result<Facts, Problem> {
    if let Some(known) = desks.facts.get(&found.key) {
        return known;
    }
    let files = desks.store.open(&found.id)?;
    let facts = desks.supervisor.inspect(files).await;
    // A refusal for what is in the file stays true as long as the file does; a fault of ours does not.
    let lasting = facts.as_ref().map_or_else(|problem| problem.code == Code::UnsupportedModel, |_| true);
    if lasting && let Err(error) = desks.facts.put(&found.key, facts.clone(), there) {
        tracing::debug!("facts about {} are not kept: {error}", found.id);
    }
    facts
}

fn entry(
    found: OnShelf,
    facts: Option<Result<Facts, Problem>>,
    lessons: Vec<Lesson>,
    models: &BTreeMap<ModelId, ModelConfig>,
) -> ShelfModel {
    let own = models.get(&found.id).cloned().unwrap_or_default();
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
        context: CONTEXT,
        longest: facts.context,
    }
}
