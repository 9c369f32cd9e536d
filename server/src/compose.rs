//! Configuration -> running parts. May fail, each time with the cause and what to do; once it has not, nothing in
//! [`crate::run`] fails for good.

use std::{
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context;
use axum::{extract::FromRef, http::HeaderMap};
use history::{History, Opened};
use leptos::config::LeptosOptions;
use manager::{
    Desk, Handle, LoadWish, ServerFacts, SessionWish,
    ports::{Clock, Feeds},
};
use protocol::{Code, Model, ModelId, Problem};
use store::{FactsCache, Store};
use supervisor::{Instance, Reclaimed, RunDir, Supervisor, WorkerProgram};
use telemetry::{GpuProbe, MachineProbe, NvmlLibrary, Places, SystemClock, Watched};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    client,
    config::{Config, Layers},
    conversations::Conversations,
    fetches::Fetches,
    guard::{Guard, Peer},
    librarian::{self, Desks, KnownFacts, Librarian},
    metrics::Counts,
    pages, past, settings, watched,
};

/// The version that everybody is told.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The file in the data folder that holds the tokens.
const TOKENS: &str = "tokens.toml";

/// Everything that a handler may need. Cheap to clone.
#[derive(Clone)]
pub(crate) struct House(Arc<Parts>);

struct Parts {
    config: Config,
    handle: Handle<Instance>,
    supervisor: Supervisor,
    store: Arc<Store>,
    librarian: Librarian,
    fetches: Fetches,
    facts: Arc<KnownFacts>,
    settings: Arc<settings::Shelf>,
    conversations: Conversations,
    history: History,
    counts: Arc<Counts>,
    guard: Arc<Guard>,
    options: LeptosOptions,
    draining: CancellationToken,
    tasks: TaskTracker,
}

/// Makes every part and sets it going. Whoever drops this on the way ends what is in `begun`: it may be looking into
/// files already.
pub(crate) async fn compose(
    layers: Layers,
    data_dir: &Path,
    taken: Taken,
    address: SocketAddr,
    begun: &OnceLock<Supervisor>,
) -> anyhow::Result<House> {
    let Taken { store, run, reclaimed } = taken;
    let tokens = tokens(data_dir)?;
    if !address.ip().is_loopback() && tokens.is_empty() {
        anyhow::bail!(
            "{address} can be reached from other machines, and there is no token. Write `tokens = [\"a long random word\"]` into {}, \
             or listen on 127.0.0.1.",
            data_dir.join(TOKENS).display()
        );
    }
    let settings = Arc::new(settings::Shelf::open(layers, data_dir)?);
    let config = settings.config();
    let tasks = TaskTracker::new();
    let clock = Arc::new(SystemClock);
    let (watching, watched) = watch::channel(Watched::default());
    let gpu = GpuProbe::start(NvmlLibrary::default())
        .context("cannot start the thread that asks the GPU driver")?;
    let samples = watched::sampler(&tasks, gpu.clone(), watched).await?;
    let made = supervisor(&store, run, gpu)?;
    let supervisor = begun.get_or_init(|| made).clone();
    let (shown, downloads) = watch::channel(Vec::new());
    let opened = History::open(data_dir, clock.now().wall_ms)?;
    let history = opened.history.clone();
    let counts = Arc::new(Counts::default());
    let archive = Arc::new(past::Archive { history: history.clone(), counts: counts.clone() });
    let feeds = Feeds { samples, downloads, warnings: history.warnings(), archive };
    let handle = manager(&config, &store, &supervisor, clock, feeds, opened.first_event, &tasks);
    let desk = handle.desk().clone();
    tasks.spawn(watched::forward(desk.workers(), supervisor.spare(), watching));
    // The first page shall have numbers.
    desk.samples()
        .wait_for(|sample| sample.host.is_some())
        .await
        .context("the manager ended before its first sample")?;
    write_down(&desk, &opened, &reclaimed, &tasks).await;
    let facts = Arc::new(FactsCache::open(&store, "facts", &build()));
    let desks = Desks {
        facts: facts.clone(),
        lessons: FactsCache::open(&store, "lessons", &build()),
        store: store.clone(),
        supervisor: supervisor.clone(),
        desk: desk.clone(),
        settings: settings.clone(),
    };
    let (librarian, work) = librarian::open(desks);
    tasks.spawn(work);
    librarian.look().await;
    let fetches = Fetches::new(store.clone(), desk, librarian.clone(), tasks.clone(), shown);
    Ok(House(Arc::new(Parts {
        guard: Arc::new(Guard::new(address.ip(), &config.allow_hosts, &config.allow_origins, &tokens)),
        options: pages::options(),
        draining: CancellationToken::new(),
        conversations: Conversations::default(),
        history,
        counts,
        config,
        handle,
        supervisor,
        store,
        librarian,
        fetches,
        facts,
        settings,
        tasks,
    })))
}

/// The data folder, which is this server's alone.
pub(crate) struct Taken {
    store: Arc<Store>,
    run: RunDir,
    reclaimed: Vec<Reclaimed>,
}

/// Takes the data folder and ends what an earlier server left behind. Both may wait for seconds, in which a signal is to
/// be heard. To be done before the port is taken: of two servers on one folder, the second is to hear who has it.
pub(crate) async fn take_over(data_dir: &Path) -> anyhow::Result<Taken> {
    let store = Arc::new(Store::open(data_dir)?);
    let folder = data_dir.join("run");
    let taken = tokio::task::spawn_blocking(move || {
        let run = RunDir::lock(&folder)?;
        let reclaimed = supervisor::reclaim(&run);
        Ok::<_, supervisor::LockError>(Taken { store, run, reclaimed })
    });
    Ok(taken.await.context("the thread that takes the run folder ended")??)
}

/// The tokens that other machines may use; none where there is no such file.
fn tokens(data_dir: &Path) -> anyhow::Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Written {
        tokens: Vec<String>,
    }
    let path = data_dir.join(TOKENS);
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let Written { tokens } = toml::from_str(&text)
        .with_context(|| format!("{} is not of the form tokens = [\"...\"]", path.display()))?;
    anyhow::ensure!(
        tokens.iter().all(|token| token.len() >= 16),
        "{} has a token of fewer than 16 characters; make it longer, so that nobody guesses it",
        path.display()
    );
    Ok(tokens)
}

fn supervisor(store: &Arc<Store>, run: RunDir, gpu: GpuProbe) -> anyhow::Result<Supervisor> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let config = supervisor::Config {
        program: WorkerProgram::this(),
        build: VERSION.to_owned(),
        threads: u32::try_from(threads).unwrap_or(1),
        spare: true,
    };
    let probe = MachineProbe::new(gpu, Places::default());
    Supervisor::new(config, run, store.clone(), Arc::new(probe))
        .context("cannot start the thread that starts workers")
}

fn manager(
    config: &Config,
    store: &Store,
    supervisor: &Supervisor,
    clock: Arc<SystemClock>,
    feeds: Feeds,
    first_event: u64,
    tasks: &TaskTracker,
) -> Handle<Instance> {
    let total = feeds.samples.borrow().as_ref().map_or(0, |sample| sample.host.memory_total_bytes);
    let facts = ServerFacts {
        version: VERSION.to_owned(),
        pid: std::process::id(),
        started_at_ms: clock.now().wall_ms,
        models_dir: store.models_dir().display().to_string(),
    };
    let told = manager::Config {
        reserve_bytes: config.reserve.of(total),
        gpu_limit: config.gpu_limit.of_gpus(),
        idle_timeout: config.idle_timeout,
        session_timeout: config.session_timeout,
        session_max_age: config.session_max_age,
        after_last_session: config.after_last_session,
        queue: config.queue,
        first_event,
        ..manager::Config::new(facts, config.ram_limit.of(total))
    };
    let (handle, actor) = manager::open(told, Arc::new(supervisor.clone()), clock, feeds);
    tasks.spawn(actor);
    handle
}

/// Writes down how this run begins, and from then on what is measured.
async fn write_down(desk: &Desk, opened: &Opened, reclaimed: &[Reclaimed], tasks: &TaskTracker) {
    desk.note(past::started(opened)).await;
    for one in reclaimed {
        desk.note(past::left_over(one)).await;
    }
    tasks.spawn(past::record(desk.samples(), opened.history.clone()));
}

/// What kind of engine made facts about files: this very file, since predictions change with the code.
fn build() -> String {
    let file = std::fs::metadata("/proc/self/exe");
    let (size, written) = file.map_or((0, 0), |meta| (meta.size(), meta.mtime()));
    format!("{VERSION}+{size:x}.{written:x}")
}

impl FromRef<House> for LeptosOptions {
    fn from_ref(house: &House) -> Self {
        house.0.options.clone()
    }
}

impl House {
    /// Everything about models but leases.
    pub(crate) fn desk(&self) -> &Desk {
        self.0.handle.desk()
    }

    /// The way to a lease.
    pub(crate) fn handle(&self) -> &Handle<Instance> {
        &self.0.handle
    }

    /// As it was checked at the start.
    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// Who may.
    pub(crate) fn guard(&self) -> &Arc<Guard> {
        &self.0.guard
    }

    /// Files of models.
    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.0.store
    }

    /// Who keeps the shelf true.
    pub(crate) fn librarian(&self) -> &Librarian {
        &self.0.librarian
    }

    /// What workers have found out about files.
    pub(crate) fn facts(&self) -> &KnownFacts {
        &self.0.facts
    }

    /// What a person may change while the server runs.
    pub(crate) fn settings(&self) -> &settings::Shelf {
        &self.0.settings
    }

    /// What happened and what was measured.
    pub(crate) fn history(&self) -> &History {
        &self.0.history
    }

    /// What was counted in this run.
    pub(crate) fn counts(&self) -> &Arc<Counts> {
        &self.0.counts
    }

    /// Fetches under way.
    pub(crate) fn fetches(&self) -> &Fetches {
        &self.0.fetches
    }

    /// What browsers without JavaScript said.
    pub(crate) fn conversations(&self) -> &Conversations {
        &self.0.conversations
    }

    /// Owns every task of this process that no one awaits by name.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    /// Fires when the server stops: event streams end.
    pub(crate) fn draining(&self) -> &CancellationToken {
        &self.0.draining
    }

    /// What the pages find in their context.
    pub(crate) fn ports(&self) -> Arc<dyn app::ports::House> {
        Arc::new(self.clone())
    }

    /// A model by its name. A name nobody knows makes the folder be read again, so a file that was put there a
    /// moment ago can be used at once.
    pub(crate) async fn find(&self, id: &ModelId) -> Result<Model, Problem> {
        let known = || self.desk().snapshot().models.iter().find(|model| model.id == *id).cloned();
        if let Some(model) = known() {
            return Ok(model);
        }
        self.librarian().look_for(id).await;
        if let Some(model) = known() {
            return Ok(model);
        }
        // The shelf knows more: perhaps it is still being copied, or became whole this very moment.
        let (store, name) = (self.store().clone(), id.clone());
        let looked = tokio::task::spawn_blocking(move || store.find(&name).map_err(|e| e.problem())).await;
        looked.unwrap_or_else(|_| Err(crate::relay::lost()))?;
        self.librarian().look_for(id).await;
        known().ok_or_else(|| {
            Problem::new(
                Code::Conflict,
                format!("The files of `{id}` are changing."),
                "Try again in a moment.",
            )
            .retry_after(2)
        })
    }

    /// The session that a request belongs to.
    pub(crate) fn session(&self, headers: &HeaderMap, peer: Peer, user: Option<&str>) -> SessionWish {
        client::session(headers, peer, user)
    }

    /// Says that a browser's page is open, until what is returned is dropped.
    pub(crate) fn presence(&self, headers: &HeaderMap) -> Option<Presence> {
        client::browser_session(headers).map(|session| Presence::new(self.desk().clone(), session))
    }

    /// A worker's own words, the newest last; kept after its death.
    pub(crate) fn worker_log(&self, model: &ModelId) -> Vec<String> {
        self.0.supervisor.log(model)
    }

    /// Wall time, for `created` fields.
    pub(crate) fn unix_seconds(&self) -> u64 {
        u64::try_from(self.wall_ms() / 1000).unwrap_or(0)
    }

    /// Wall time in Unix milliseconds.
    pub(crate) fn wall_ms(&self) -> i64 {
        SystemClock.now().wall_ms
    }

    /// A variable of the environment may name a model in capitals.
    fn in_any_case(&self, id: ModelId) -> ModelId {
        let snapshot = self.desk().snapshot();
        let mut known = snapshot.models.iter().map(|model| &model.id);
        let exact = known.clone().any(|known| *known == id);
        let meant = known.find(|known| known.as_str().eq_ignore_ascii_case(id.as_str()));
        meant.filter(|_| !exact).cloned().unwrap_or(id)
    }

    /// Begins to load what is configured to be loaded at the start. What fails is logged; the server goes on.
    pub(crate) fn preload(&self) {
        for model in self.config().preload.clone() {
            let house = self.clone();
            self.tasks().spawn(async move {
                let by = "preload".to_owned();
                let wish = LoadWish { idle_timeout: None, context: None, wait: true, anyway: false, by };
                let meant = house.in_any_case(model.clone());
                let loaded = async { house.desk().load(house.wanted(&meant).await?.id, wish).await };
                if let Err(problem) = loaded.await {
                    tracing::warn!("preload of {model}: {problem}");
                }
            });
        }
    }

    /// Takes nothing new, ends the event streams, lets answers finish within the manager's grace, unloads
    /// everything in parallel. Returns when nothing is left, or nothing but what is stuck.
    pub(crate) async fn drain(&self) {
        self.draining().cancel();
        self.fetches().cancel_all();
        self.desk().shut_down().await;
        past::stopped(self.desk()).await;
    }

    /// The process ends now, with everything.
    pub(crate) fn cut(&self) {
        self.0.supervisor.cut();
    }

    /// Ends what is left: processes first, then the tasks that waited for them.
    ///
    /// # Errors
    /// The processes that cannot be ended within `most`.
    pub(crate) async fn close(&self, most: Duration) -> Result<(), Vec<u32>> {
        let ended = self.0.supervisor.shut_down(most).await;
        self.tasks().close();
        self.history().close().await;
        ended
    }
}

/// An open page. Its drop is the page's end.
pub(crate) struct Presence {
    desk: Desk,
    session: SessionWish,
}

impl Presence {
    fn new(desk: Desk, session: SessionWish) -> Self {
        let presence = Self { desk, session };
        presence.tell(true);
        presence
    }

    fn tell(&self, open: bool) {
        let SessionWish { key, kind, label } = self.session.clone();
        self.desk.presence(key, kind, label, open);
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.tell(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_and_short_ones_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(tokens(dir.path()).unwrap().is_empty());
        let write = |text: &str| std::fs::write(dir.path().join(TOKENS), text).unwrap();
        write("tokens = [\"0123456789abcdef\"]");
        assert_eq!(tokens(dir.path()).unwrap(), ["0123456789abcdef"]);
        for text in ["tokens = [\"short\"]", "token = \"x\"", "tokens = "] {
            write(text);
            assert!(tokens(dir.path()).is_err(), "{text}");
        }
    }
}
