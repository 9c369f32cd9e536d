//! The owner of the life cycle's state: carries out what the core decided, and never waits for work.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use protocol::{Download, LedgerEvent, Lesson, ModelId, Problem, Sample, Snapshot, Warning};
use tokio::sync::{mpsc, watch};

use crate::{
    config::Config,
    desk::Desk,
    event::{Action, Event, Heard, Ticket},
    gate::{Answered, Gate, Letterbox, Message, Reply},
    handle::Handle,
    lease::{Back, Lease},
    ledger::Ledger,
    meter::{Meter, Tally},
    ports::{Clock, Epoch, Feeds, Launcher, MemorySample, Now},
    step::{self, Actions, House},
    view::{self, Counted, Counters},
};

/// Messages that are taken in before what came of them is shown.
const AT_ONCE: usize = 64;

/// Makes the manager: the way in, and the actor that the caller runs. The actor ends when nobody can reach it any
/// more (no desk, no handle, no lease, no instance), or when it is dropped.
pub fn open<L: Launcher, C: Clock>(
    config: Config,
    launcher: Arc<L>,
    clock: Arc<C>,
    feeds: Feeds,
) -> (Handle<L::Instance>, impl Future<Output = ()> + Send) {
    let (queue, messages) = mpsc::unbounded_channel();
    let gate = Gate::new(queue.clone());
    let Feeds { samples, downloads, warnings, archive } = feeds;
    let ledger = Arc::new(Ledger::new(archive));
    let sequence = u64::try_from(config.server.started_at_ms).unwrap_or(0);
    let salt = RandomState::new().hash_one(config.server.started_at_ms);
    let house = House::new(config, salt);
    let now = clock.now();
    let first = view::snapshot(&house, sequence, &Counters::new(), downloads.borrow().clone(), now);
    let first_sample = view::sample(&house, sequence, &Counters::new(), now);
    let (snapshots, snapshots_seen) = watch::channel(Arc::new(first));
    let (changes, changes_seen) = watch::channel(sequence);
    let (sampled, samples_seen) = watch::channel(Arc::new(first_sample));
    let (workers, workers_seen) = watch::channel(Vec::new());
    let (lessons, lessons_seen) = watch::channel(Arc::default());
    let desk = Desk {
        gate: gate.clone(),
        snapshots: snapshots_seen,
        changes: changes_seen,
        samples: samples_seen,
        workers: workers_seen,
        lessons: lessons_seen,
        ledger: ledger.clone(),
    };
    let actor = Actor {
        house,
        launcher,
        clock,
        queue: queue.downgrade(),
        ledger,
        instances: BTreeMap::new(),
        asks: BTreeMap::new(),
        meters: BTreeMap::new(),
        sequence,
        shown: Shown { snapshots, changes, samples: sampled, workers, lessons },
        warnings: warnings.clone(),
        measured_at: now.mono,
        stale: false,
    };
    (Handle::new(desk, gate, queue), actor.run(messages, samples, downloads, warnings))
}

/// Somebody who waits for an answer.
enum Pending<I> {
    Ask(Reply<Answered>),
    Lease(ModelId, Arc<Gate>, Reply<Result<Lease<I>, Problem>>),
}

/// An instance's handle, and what its requests have made.
struct Kept<I> {
    instance: I,
    tally: Arc<Tally>,
    /// Tokens at the measurement before.
    counted: u64,
}

/// What others see.
struct Shown {
    snapshots: watch::Sender<Arc<Snapshot>>,
    changes: watch::Sender<u64>,
    samples: watch::Sender<Arc<Sample>>,
    workers: watch::Sender<Vec<u32>>,
    lessons: watch::Sender<Arc<BTreeMap<String, Vec<Lesson>>>>,
}

struct Actor<L: Launcher, C> {
    house: House,
    launcher: Arc<L>,
    clock: Arc<C>,
    queue: mpsc::WeakUnboundedSender<Message<L::Instance>>,
    ledger: Arc<Ledger>,
    instances: BTreeMap<Epoch, Kept<L::Instance>>,
    asks: BTreeMap<Ticket, Pending<L::Instance>>,
    meters: BTreeMap<Ticket, Arc<Meter>>,
    sequence: u64,
    shown: Shown,
    /// Troubles of other rooms.
    warnings: watch::Receiver<Vec<Warning>>,
    /// When the last measurement came, on the monotonic clock.
    measured_at: Duration,
    /// Whether something changed that nobody has been shown.
    stale: bool,
}

impl<L: Launcher, C: Clock> Actor<L, C> {
    async fn run(
        mut self,
        mut messages: mpsc::UnboundedReceiver<Message<L::Instance>>,
        mut samples: watch::Receiver<Option<Arc<MemorySample>>>,
        mut downloads: watch::Receiver<Vec<Download>>,
        mut warnings: watch::Receiver<Vec<Warning>>,
    ) {
        let (mut sampler, mut fetcher, mut warner) = (true, true, true);
        // What was measured before this began counts as well: nobody shall wait for the next look.
        samples.mark_changed();
        let mut batch = Vec::with_capacity(AT_ONCE);
        loop {
            let due = step::next_deadline(&self.house, self.clock.now());
            let clock = self.clock.clone();
            tokio::select! {
                count = messages.recv_many(&mut batch, AT_ONCE) => {
                    if count == 0 {
                        return;
                    }
                    batch.drain(..).for_each(|message| self.receive(message, &downloads));
                }
                () = sleep_until(&*clock, due) => self.happen(Event::Timer, &downloads),
                alive = samples.changed(), if sampler => match alive {
                    Ok(()) => self.measured(samples.borrow_and_update().clone(), &downloads),
                    Err(_) => sampler = false,
                },
                alive = downloads.changed(), if fetcher => {
                    fetcher = alive.is_ok();
                    downloads.mark_unchanged();
                    self.stale = true;
                }
                alive = warnings.changed(), if warner => {
                    warner = alive.is_ok();
                    warnings.mark_unchanged();
                    self.stale = true;
                }
            }
            self.show(&downloads);
        }
    }

    fn receive(&mut self, message: Message<L::Instance>, downloads: &watch::Receiver<Vec<Download>>) {
        match message {
            Message::Tell(event) => {
                if let Event::LeaseBack { lease, .. } = &event {
                    self.meters.remove(lease);
                }
                if let Event::Leave { ticket } = &event {
                    self.asks.remove(ticket);
                }
                self.happen(event, downloads);
            }
            Message::Ask(event, ticket, reply) => {
                self.asks.insert(ticket, Pending::Ask(reply));
                self.happen(event, downloads);
            }
            Message::Lease(wish, ticket, gate, reply) => {
                if !reply.is_abandoned() {
                    self.asks.insert(ticket, Pending::Lease(wish.model.clone(), gate, reply));
                    self.happen(Event::Lease { ticket, wish }, downloads);
                }
            }
            Message::News(epoch, news) => {
                let (heard, instance) = Heard::split(news);
                if let Some(instance) = instance {
                    self.instances.insert(epoch, Kept { instance, tally: Arc::default(), counted: 0 });
                }
                self.happen(Event::News { epoch, heard }, downloads);
                if !self.house.knows(epoch) {
                    self.instances.remove(&epoch);
                }
            }
        }
    }

    fn measured(&mut self, sample: Option<Arc<MemorySample>>, downloads: &watch::Receiver<Vec<Download>>) {
        let Some(sample) = sample else { return };
        let now = self.clock.now();
        let seconds = now.mono.saturating_sub(self.measured_at).as_secs_f64();
        self.measured_at = now.mono;
        let speeds = self.instances.iter_mut().filter_map(|(epoch, kept)| {
            let tokens = kept.tally.tokens();
            let made = tokens.saturating_sub(kept.counted);
            kept.counted = tokens;
            (made > 0 && seconds > 0.0).then(|| (*epoch, made as f64 / seconds))
        });
        let speeds = speeds.collect();
        self.happen(Event::Sampled(sample, speeds), downloads);
        let (counters, sequence) = (self.counters(), self.next_sequence());
        self.shown.samples.send_replace(Arc::new(view::sample(&self.house, sequence, &counters, now)));
        let snapshot = self.snapshot(now, downloads);
        self.shown.snapshots.send_replace(Arc::new(snapshot));
    }

    /// Lets something happen and carries out what comes of it. Whoever is answered can see the new state already.
    fn happen(&mut self, event: Event, downloads: &watch::Receiver<Vec<Download>>) {
        let now = self.clock.now();
        let Actions { list, changed, learned } = step::step(&mut self.house, event, now);
        self.stale |= changed;
        if learned {
            self.shown.lessons.send_replace(Arc::new(self.house.lessons()));
        }
        let mut answers = Vec::new();
        for action in list {
            match action {
                Action::Grant { .. } | Action::Answer { .. } => answers.push(action),
                other => self.carry_out(other),
            }
        }
        if !answers.is_empty() {
            self.make_meters(&answers);
            self.show(downloads);
        }
        for answer in answers {
            self.carry_out(answer);
        }
    }

    /// A granted lease has its meter before anybody sees it.
    fn make_meters(&mut self, answers: &[Action]) {
        for answer in answers {
            if let Action::Grant { ticket, epoch, .. } = answer
                && let Some(kept) = self.instances.get(epoch)
            {
                self.meters.insert(*ticket, Arc::new(Meter::new(kept.tally.clone())));
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Start(order) => {
                // Without a queue nobody is left, the one who wanted this load included.
                if let Some(queue) = self.queue.upgrade() {
                    self.launcher.start(order, Arc::new(Letterbox(queue)));
                }
            }
            Action::Stop(order) => self.launcher.stop(order),
            Action::CancelAll(epoch) => self.launcher.cancel_all(epoch),
            Action::StopRequest { lease, why } => {
                if let Some(meter) = self.meters.get(&lease) {
                    meter.stop(why);
                }
            }
            Action::Forget(epoch) => drop(self.instances.remove(&epoch)),
            Action::EndSession { epoch, session } => self.launcher.end_session(epoch, &session),
            Action::Grant { ticket, epoch, queue_ms, load_ms } => {
                self.grant(ticket, epoch, queue_ms, load_ms);
            }
            Action::Answer { ticket, answer } => match self.asks.remove(&ticket) {
                Some(Pending::Ask(reply)) => reply.give(answer),
                Some(Pending::Lease(_, _, reply)) => {
                    // A lease is granted, never answered in another way; what comes here is a refusal.
                    reply.give(answer.and_then(|other| Err(crate::words::wrong_answer(&other))));
                }
                None => {}
            },
            Action::Ledger(event) => self.write(*event),
        }
    }

    /// Hands a lease over. If nobody takes it, it is dropped here and comes back like any other.
    fn grant(&mut self, ticket: Ticket, epoch: Epoch, queue_ms: u64, load_ms: Option<u64>) {
        let Some(Pending::Lease(model, gate, reply)) = self.asks.remove(&ticket) else { return };
        let back = Back { gate, model, lease: ticket };
        let (Some(kept), Some(meter)) = (self.instances.get(&epoch), self.meters.get(&ticket)) else {
            return reply.give(Err(crate::words::worker_died(&back.model, None)));
        };
        let (instance, meter) = (kept.instance.clone(), meter.clone());
        reply.give(Ok(Lease { instance, meter, queue_ms, load_ms, _back: back }));
    }

    fn write(&self, event: LedgerEvent) {
        tracing::info!(
            id = event.id,
            kind = event.kind.word(),
            model = event.model.as_ref().map(ModelId::as_str),
            by = event.asked_by,
            ms = event.duration_ms,
            "{}",
            event.reason
        );
        self.ledger.write(event);
    }

    /// Shows what changed, if something did.
    fn show(&mut self, downloads: &watch::Receiver<Vec<Download>>) {
        if !self.stale {
            return;
        }
        self.stale = false;
        let snapshot = self.snapshot(self.clock.now(), downloads);
        let sequence = snapshot.sequence;
        self.shown.snapshots.send_replace(Arc::new(snapshot));
        self.shown.changes.send_replace(sequence);
        let pids = self.house.pids();
        self.shown.workers.send_if_modified(|shown| {
            let modified = *shown != pids;
            *shown = pids;
            modified
        });
    }

    fn snapshot(&mut self, now: Now, downloads: &watch::Receiver<Vec<Download>>) -> Snapshot {
        let (counters, sequence) = (self.counters(), self.next_sequence());
        let mut shown = view::snapshot(&self.house, sequence, &counters, downloads.borrow().clone(), now);
        shown.warnings.extend(self.warnings.borrow().iter().cloned());
        shown
    }

    fn counters(&self) -> Counters {
        let counted = |meter: &Arc<Meter>| Counted {
            state: meter.state(),
            prompt_tokens: meter.prompt_tokens(),
            completion_tokens: meter.completion_tokens(),
        };
        self.meters.iter().map(|(ticket, meter)| (*ticket, counted(meter))).collect()
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}

/// Waits for the next deadline; for ever if there is none.
async fn sleep_until<C: Clock>(clock: &C, due: Option<Duration>) {
    match due {
        Some(boot) => clock.sleep_until(boot).await,
        None => std::future::pending().await,
    }
}
