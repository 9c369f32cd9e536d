//! A house with a clock in the test's hand. Whatever is asked is written down, and that nobody is answered twice.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use protocol::{
    EventKind, Failure, Host, IdleTimeout, LedgerEvent, Method, Model, ModelId, ModelKind, ModelState, Plan,
    Problem, Quality, Receipt, Reloaded, SessionKind, Time,
};

use crate::{
    config::{Config, ServerFacts},
    desk::LoadWish,
    event::{Action, Answer, Event, Heard, Manner, Ticket},
    lease::{LeaseWish, SessionWish},
    model::State,
    ports::{
        Epoch, Expectation, Measured, MemorySample, Now, RamTotals, ReadyFacts, Release, ShelfModel,
        StartOrder, StopOrder,
    },
    step::{self, House},
    view,
};

pub(crate) const MIB: u64 = 1 << 20;

/// What an ask came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Granted { epoch: Epoch, queue_ms: u64, load_ms: Option<u64> },
    Told(Result<Answer, Problem>),
}

pub(crate) struct Rig {
    pub(crate) house: House,
    pub(crate) now: Now,
    /// What came of the last event.
    pub(crate) last: Vec<Action>,
    pub(crate) outcomes: BTreeMap<Ticket, Outcome>,
    pub(crate) starts: Vec<StartOrder>,
    pub(crate) stops: Vec<StopOrder>,
    pub(crate) ledger: Vec<LedgerEvent>,
    next: u64,
}

pub(crate) fn id(name: &str) -> ModelId {
    name.parse().unwrap()
}

pub(crate) fn config() -> Config {
    let server = ServerFacts {
        version: "0.1.0".to_owned(),
        pid: 1,
        started_at_ms: 1_000_000,
        models_dir: "models".to_owned(),
    };
    Config::new(server, 1000 * MIB)
}

pub(crate) fn shelf(name: &str, reserve_mib: u64) -> ShelfModel {
    ShelfModel {
        id: id(name),
        kind: ModelKind::Chat,
        family: "llama".to_owned(),
        quantization: "Q4_1".to_owned(),
        size_bytes: 50 * MIB,
        files: name.to_owned(),
        lessons: Vec::new(),
        expected: Some(Expectation {
            weights_bytes: reserve_mib * MIB / 2,
            kv_bytes_per_token: reserve_mib * MIB / 2 / 2048,
            context: 2048,
            longest: 8192,
            ..Expectation::default()
        }),
        trouble: None,
        pinned: false,
        weight: crate::Weight::USUAL,
        idle_timeout: None,
        context: None,
    }
}

pub(crate) fn measured(private_mib: u64) -> Measured {
    Measured {
        private_bytes: private_mib * MIB,
        mapped_bytes: 0,
        gpu_bytes: None,
        quality: Quality::Exact,
        wall_ms: 0,
    }
}

pub(crate) fn facts(pid: u32) -> ReadyFacts {
    ReadyFacts {
        pid,
        device: "cpu".to_owned(),
        threads: 2,
        context: 2048,
        sandbox: "none".to_owned(),
        served_by: "nobody".to_owned(),
        memory: Some(measured(33)),
    }
}

pub(crate) fn failure(code: &str) -> Failure {
    Failure {
        code: code.to_owned(),
        message: "It broke.".to_owned(),
        hint: "Mend it.".to_owned(),
        at: Time::from_unix_ms(0),
        retry_at: None,
        log_tail: vec!["last words".to_owned()],
    }
}

pub(crate) fn release(pid: u32) -> Release {
    Release {
        pid: Some(pid),
        method: Method::Exit,
        held: Some(measured(33)),
        residual_bytes: 0,
        gpus: Vec::new(),
        left: Vec::new(),
        evidence: None,
    }
}

pub(crate) fn session(key: &str) -> SessionWish {
    SessionWish { key: key.to_owned(), kind: SessionKind::Browser, label: "browser".to_owned() }
}

pub(crate) fn wish(model: &str) -> LeaseWish {
    LeaseWish {
        model: id(model),
        request: "r".to_owned(),
        client: "a test".to_owned(),
        session: None,
        idle_timeout: None,
        context: None,
    }
}

impl Rig {
    /// Three models, `a`, `b` and `c`, of 100 MiB each; 15 min idle timeout.
    pub(crate) fn new() -> Self {
        Self::with(config(), vec![shelf("a", 100), shelf("b", 100), shelf("c", 100)])
    }

    pub(crate) fn with(config: Config, models: Vec<ShelfModel>) -> Self {
        let at = Duration::from_secs(1000);
        let mut rig = Self {
            house: House::new(config, 7),
            now: Now { boot: at, mono: at, wall_ms: 1_000_000 },
            last: Vec::new(),
            outcomes: BTreeMap::new(),
            starts: Vec::new(),
            stops: Vec::new(),
            ledger: Vec::new(),
            next: 1,
        };
        let ticket = rig.ticket();
        rig.happen(Event::Stock { ticket, shelf: models });
        rig
    }

    pub(crate) fn ticket(&mut self) -> Ticket {
        self.next += 1;
        Ticket(self.next)
    }

    /// Lets something happen.
    pub(crate) fn happen(&mut self, event: Event) {
        let actions = step::step(&mut self.house, event, self.now);
        for action in &actions.list {
            match action {
                Action::Grant { ticket, epoch, queue_ms, load_ms } => {
                    let (epoch, queue_ms, load_ms) = (*epoch, *queue_ms, *load_ms);
                    self.note(*ticket, Outcome::Granted { epoch, queue_ms, load_ms });
                }
                Action::Answer { ticket, answer } => self.note(*ticket, Outcome::Told(answer.clone())),
                Action::Start(order) => self.starts.push(order.clone()),
                Action::Stop(order) => self.stops.push(*order),
                Action::Ledger(event) => self.ledger.push((**event).clone()),
                _ => {}
            }
        }
        self.last = actions.list;
    }

    fn note(&mut self, ticket: Ticket, outcome: Outcome) {
        let before = self.outcomes.insert(ticket, outcome);
        assert_eq!(before, None, "{ticket:?} was answered twice");
    }

    /// Lets time pass, with the timer at each deadline on the way.
    pub(crate) fn pass_ms(&mut self, ms: u64) {
        let target = self.now.boot + Duration::from_millis(ms);
        let mut rounds = 0;
        while let Some(due) = step::next_deadline(&self.house, self.now).filter(|due| *due <= target) {
            rounds += 1;
            assert!(rounds < 1000, "the timer spins at {due:?}");
            self.forward(due.saturating_sub(self.now.boot));
            self.happen(Event::Timer);
        }
        self.forward(target.saturating_sub(self.now.boot));
    }

    pub(crate) fn forward(&mut self, span: Duration) {
        self.now.boot += span;
        self.now.mono += span;
        self.now.wall_ms += i64::try_from(span.as_millis()).unwrap();
    }

    /// The machine sleeps: the monotonic clock stands still.
    pub(crate) fn sleep_ms(&mut self, ms: u64) {
        self.now.boot += Duration::from_millis(ms);
        self.now.wall_ms += i64::try_from(ms).unwrap();
        self.happen(Event::Timer);
    }

    pub(crate) fn lease(&mut self, model: &str) -> Ticket {
        self.lease_as(wish(model))
    }

    pub(crate) fn lease_as(&mut self, wish: LeaseWish) -> Ticket {
        let ticket = self.ticket();
        self.happen(Event::Lease { ticket, wish });
        ticket
    }

    pub(crate) fn back(&mut self, lease: Ticket, model: &str) {
        self.happen(Event::LeaseBack { lease, model: id(model) });
    }

    pub(crate) fn load(&mut self, model: &str) -> Ticket {
        self.load_as(model, None, true)
    }

    pub(crate) fn load_as(&mut self, model: &str, idle: Option<IdleTimeout>, wait: bool) -> Ticket {
        let ticket = self.ticket();
        let by = "a person".to_owned();
        let wish = LoadWish { idle_timeout: idle, context: None, wait, anyway: false, by };
        self.happen(Event::Load { ticket, model: id(model), wish });
        ticket
    }

    pub(crate) fn plan(&mut self, model: &str, context: Option<u32>) -> Plan {
        let ticket = self.ticket();
        self.happen(Event::Plan { ticket, model: id(model), context });
        match self.told(ticket) {
            Answer::Plan(plan) => *plan,
            other => panic!("no plan: {other:?}"),
        }
    }

    pub(crate) fn unload(&mut self, model: &str, manner: Manner) -> Ticket {
        let ticket = self.ticket();
        self.happen(Event::Unload { ticket, model: id(model), manner, by: "a person".to_owned() });
        ticket
    }

    pub(crate) fn reload(&mut self, model: &str) -> Ticket {
        let ticket = self.ticket();
        self.happen(Event::Reload { ticket, model: id(model), by: "a person".to_owned() });
        ticket
    }

    pub(crate) fn clean_up(&mut self, model: &str, manner: Manner, dry: bool) -> Ticket {
        let ticket = self.ticket();
        self.happen(Event::CleanUp { ticket, model: id(model), manner, dry, by: "a person".to_owned() });
        ticket
    }

    pub(crate) fn pin(&mut self, model: &str, pinned: bool) {
        let ticket = self.ticket();
        self.happen(Event::Pin { ticket, model: id(model), pinned, by: "a person".to_owned() });
    }

    pub(crate) fn idle_timeout(&mut self, model: &str, timeout: impl Into<Option<IdleTimeout>>) {
        let (ticket, timeout) = (self.ticket(), timeout.into());
        self.happen(Event::IdleTimeout { ticket, model: id(model), timeout, by: "a person".to_owned() });
    }

    pub(crate) fn shut_down(&mut self) -> Ticket {
        let ticket = self.ticket();
        self.happen(Event::ShutDown { ticket });
        ticket
    }

    /// The sampler measures: so many MiB are available, and what some workers hold.
    pub(crate) fn measure(&mut self, available_mib: u64, workers: &[(Epoch, u64)]) {
        let host = Host {
            memory_total_bytes: 24_000 * MIB,
            memory_available_bytes: available_mib * MIB,
            swap_used_bytes: 0,
            cpu_count: 2,
            cpu_percent: 0.0,
            pressure: None,
        };
        let sample = MemorySample {
            wall_ms: self.now.wall_ms,
            begun: self.now.mono,
            host,
            ram: RamTotals::default(),
            server: None,
            workers: workers.iter().map(|(epoch, mib)| (pid(*epoch), measured(*mib))).collect(),
            spare: None,
            gpus: vec![],
            gpu_absent: None,
            gpu_uses: vec![],
        };
        self.happen(Event::Sampled(Arc::new(sample), vec![]));
    }

    /// The epoch of a model's worker.
    pub(crate) fn epoch(&self, model: &str) -> Epoch {
        self.house.models[&id(model)].state.worker().expect("no worker").epoch
    }

    pub(crate) fn news(&mut self, epoch: Epoch, heard: Heard) {
        self.happen(Event::News { epoch, heard });
    }

    /// The worker of a loading model becomes ready; its process is numbered after its epoch.
    pub(crate) fn come_ready(&mut self, model: &str) -> Epoch {
        let epoch = self.epoch(model);
        let pid = pid(epoch);
        self.news(epoch, Heard::Spawned { pid });
        self.news(epoch, Heard::Ready(facts(pid)));
        epoch
    }

    /// The worker of an unloading model is gone, and all it held is back.
    pub(crate) fn come_back(&mut self, model: &str) {
        let epoch = self.epoch(model);
        self.news(epoch, Heard::Released(release(pid(epoch))));
    }

    pub(crate) fn fail(&mut self, model: &str, code: &str) {
        let epoch = self.epoch(model);
        self.news(epoch, Heard::Failed(failure(code)));
    }

    /// A model that is ready, since somebody asked for it.
    pub(crate) fn loaded(&mut self, model: &str) -> Epoch {
        self.load(model);
        self.come_ready(model)
    }

    pub(crate) fn state(&self, model: &str) -> ModelState {
        self.house.models[&id(model)].state.word()
    }

    pub(crate) fn full_state(&self, model: &str) -> &State {
        &self.house.models[&id(model)].state
    }

    /// The model as the page shows it.
    pub(crate) fn shown(&self, model: &str) -> Model {
        let busy = self.house.busy_sessions();
        view::model(&id(model), &self.house.models[&id(model)], &self.house, &busy, self.now)
    }

    /// How many seconds from now the page says that an idle model goes.
    pub(crate) fn goes_in_s(&self, model: &str) -> Option<i64> {
        self.shown(model).unload_at.map(|at| (at.unix_ms() - self.now.wall_ms) / 1000)
    }

    pub(crate) fn waits(&self, ticket: Ticket) -> bool {
        !self.outcomes.contains_key(&ticket)
    }

    pub(crate) fn is_granted(&self, ticket: Ticket) -> bool {
        matches!(self.outcomes.get(&ticket), Some(Outcome::Granted { .. }))
    }

    pub(crate) fn granted(&self, ticket: Ticket) -> (Epoch, u64, Option<u64>) {
        match self.outcomes.get(&ticket) {
            Some(Outcome::Granted { epoch, queue_ms, load_ms }) => (*epoch, *queue_ms, *load_ms),
            other => panic!("not granted: {other:?}"),
        }
    }

    pub(crate) fn refusal(&self, ticket: Ticket) -> Problem {
        match self.outcomes.get(&ticket) {
            Some(Outcome::Told(Err(problem))) => problem.clone(),
            other => panic!("not refused: {other:?}"),
        }
    }

    pub(crate) fn told(&self, ticket: Ticket) -> Answer {
        match self.outcomes.get(&ticket) {
            Some(Outcome::Told(Ok(answer))) => answer.clone(),
            other => panic!("not told: {other:?}"),
        }
    }

    pub(crate) fn receipt(&self, ticket: Ticket) -> Receipt {
        match self.told(ticket) {
            Answer::Receipt(receipt) => *receipt,
            other => panic!("no receipt: {other:?}"),
        }
    }

    pub(crate) fn reloaded(&self, ticket: Ticket) -> Reloaded {
        match self.told(ticket) {
            Answer::Reloaded(reloaded) => *reloaded,
            other => panic!("not reloaded: {other:?}"),
        }
    }

    pub(crate) fn told_model(&self, ticket: Ticket) -> Model {
        match self.told(ticket) {
            Answer::Model(model) => *model,
            other => panic!("no model: {other:?}"),
        }
    }

    /// Requests that the last event told to stop.
    pub(crate) fn stopped_requests(&self) -> Vec<Ticket> {
        let stop = |action: &Action| match action {
            Action::StopRequest { lease, .. } => Some(*lease),
            _ => None,
        };
        self.last.iter().filter_map(stop).collect()
    }

    pub(crate) fn events(&self, kind: EventKind) -> Vec<&LedgerEvent> {
        self.ledger.iter().filter(|event| event.kind == kind).collect()
    }
}

pub(crate) fn pid(epoch: Epoch) -> u32 {
    u32::try_from(epoch.0).unwrap() + 1000
}
