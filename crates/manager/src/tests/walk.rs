//! The rules under a long random walk: clients, people, a launcher that does whatever it may, and time. After each
//! step the house is compared with what the walk itself knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use proptest::prelude::*;
use protocol::{Host, IdleTimeout, Method, Plan, Problem, SessionKind};

use super::rig::{MIB, Outcome, Rig, config, facts, failure, id, measured, release, session, shelf, wish};
use crate::{
    desk::{Defaults, LoadWish},
    event::{Answer, Event, Heard, Manner, Ticket},
    model::State,
    ports::{Epoch, GpuExpectation, GpuUse, MemorySample, RamTotals, ShelfModel},
    sessions::Hidden,
    step,
};

mod guests;
mod look;
mod room;

use guests::Guests;

const MODELS: [&str; 4] = ["a", "b", "c", "d"];

/// What the launcher knows of a worker.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    Loading,
    Ready,
    /// Told to go, or died; its release is to come.
    Going,
}

/// Two of them compute on a GPU, which has room for one and a half.
fn on_shelf(name: &str) -> ShelfModel {
    let mut found = shelf(name, 300);
    if let Some(expected) = found.expected.as_mut().filter(|_| matches!(name, "c" | "d")) {
        let (fixed_bytes, kv_bytes_per_token) = (400 * MIB, 200 * MIB / 2048);
        expected.gpu = Some(GpuExpectation { index: 0, fixed_bytes, kv_bytes_per_token });
    }
    found
}

struct Walk {
    rig: Rig,
    workers: BTreeMap<Epoch, (&'static str, Life)>,
    dead: Vec<Epoch>,
    /// Leases that were granted and are held, with model and epoch.
    held: Vec<(Ticket, &'static str, Epoch)>,
    /// Everybody who asked and was not answered.
    asked: BTreeSet<Ticket>,
    left: BTreeSet<Ticket>,
    seen: usize,
    stopping: bool,
    /// When each draining began, for the grace; and whether somebody was in a hurry.
    drains: BTreeMap<Epoch, (Duration, bool)>,
    cuts: BTreeMap<Epoch, Duration>,
    /// The end of the last use of each ready instance, as the walk saw it.
    rested: BTreeMap<Epoch, Duration>,
    /// When each became ready, on the monotonic clock.
    born: BTreeMap<Epoch, Duration>,
    /// Models that were pushed out.
    evicted: usize,
    /// Loads that waited for room.
    waited: usize,
    /// The sentence of the last refusal.
    refused: Option<String>,
    /// Those whose end was looked at.
    ended: BTreeSet<Epoch>,
    /// Ledger events that were replayed and compared.
    replayed: usize,
    /// Sessions, as the walk sees them.
    guests: Guests,
}

impl Walk {
    fn new() -> Self {
        let mut config = config();
        config.queue = 4;
        config.in_flight = 3;
        let models = MODELS.map(on_shelf).to_vec();
        Self {
            rig: Rig::with(config, models),
            workers: BTreeMap::new(),
            dead: Vec::new(),
            held: Vec::new(),
            asked: BTreeSet::new(),
            left: BTreeSet::new(),
            seen: 1,
            stopping: false,
            drains: BTreeMap::new(),
            cuts: BTreeMap::new(),
            rested: BTreeMap::new(),
            born: BTreeMap::new(),
            evicted: 0,
            waited: 0,
            refused: None,
            ended: BTreeSet::new(),
            replayed: 0,
            guests: Guests::default(),
        }
    }

    /// One thing happens: `what` picks it, `which` and `how` its details.
    fn go(&mut self, what: u8, which: u8, how: u16) {
        let model = MODELS[usize::from(which) % MODELS.len()];
        match what % 32 {
            0..=5 => self.lease(model, which, how),
            6..=10 => self.give_back(usize::from(how)),
            11 => self.leave(usize::from(how)),
            12 => self.load(model, how),
            13 => self.unload(model, how),
            14 => self.reload(model),
            15 => self.clean_up(model, how),
            16 => self.settings(model, how),
            17..=22 => self.launcher(usize::from(which), how),
            23 => self.late_word(usize::from(which), how),
            24 => self.measure(how),
            25 if how.is_multiple_of(7) => self.end_a_session(how),
            25 => self.page(how),
            26 if how.is_multiple_of(3) => self.limit(how >> 2),
            26 => self.stock(how),
            27..=30 => self.pass(u64::from(how)),
            _ => self.pass(u64::from(how) * 37),
        }
    }

    /// Lets an event happen that is about `model` alone, and looks at everything that must hold.
    fn tell(&mut self, model: Option<&str>, event: Event) {
        let before = self.rig.house.clone();
        if matches!(event, Event::Timer) {
            self.guests_go();
        }
        self.rig.happen(event);
        for (other, record) in &before.models {
            if model.is_some_and(|model| other.as_str() != model) {
                self.look_at_bystander(other, record);
            }
        }
        self.look();
        self.look_at_evictions(&before);
    }

    fn ask(&mut self, model: Option<&str>, make: impl FnOnce(Ticket) -> Event) -> Ticket {
        let ticket = self.rig.ticket();
        self.asked.insert(ticket);
        self.tell(model, make(ticket));
        ticket
    }

    fn lease(&mut self, model: &'static str, which: u8, how: u16) {
        let mut wish = wish(model);
        let key = (which >= 64).then(|| format!("s{}", how % 5));
        wish.session = key.as_deref().map(session);
        wish.idle_timeout = [None, None, None, Some(IdleTimeout::After { ms: 0 })][usize::from(how) % 4];
        wish.context = (how.is_multiple_of(29)).then_some(u32::from(how % 3) * 512 + 512);
        // A new session may push an old one out, which is about every model.
        let about = wish.session.is_none().then_some(model);
        let ticket = self.rig.ticket();
        self.asked.insert(ticket);
        if let Some(key) = key {
            self.guest_asks(ticket, key, model);
        }
        self.tell(about, Event::Lease { ticket, wish });
    }

    fn give_back(&mut self, at: usize) {
        if self.held.is_empty() {
            return;
        }
        let (lease, model, epoch) = self.held.swap_remove(at % self.held.len());
        self.rested.insert(epoch, self.rig.now.boot);
        if self.workers.get(&epoch).is_some_and(|(_, life)| *life == Life::Ready) {
            self.guest_rests(lease);
        }
        self.tell(Some(model), Event::LeaseBack { lease, model: id(model) });
    }

    fn leave(&mut self, at: usize) {
        let Some(ticket) = self.asked.iter().nth(at % self.asked.len().max(1)).copied() else { return };
        self.asked.remove(&ticket);
        self.left.insert(ticket);
        self.tell(None, Event::Leave { ticket });
    }

    fn load(&mut self, model: &'static str, how: u16) {
        let idle_timeout = [None, Some(IdleTimeout::After { ms: 3000 })][usize::from(how) % 2];
        if let Some(State::Ready(ready)) = self.state(model) {
            self.rested.insert(ready.worker.epoch, self.rig.now.boot);
        }
        let wait = !how.is_multiple_of(3);
        let by = "walk".to_owned();
        let idle = matches!(self.state(model), Some(State::Unloaded | State::Failed(_)));
        let context = (idle && how.is_multiple_of(5)).then_some(512 << (how % 4));
        let anyway = how.is_multiple_of(13);
        let planned = (idle && !anyway && !self.stopping).then(|| self.plan(model, context));
        let wish = LoadWish { idle_timeout, context, wait, anyway, by };
        self.ask(Some(model), |ticket| Event::Load { ticket, model: id(model), wish });
        if let Some(planned) = planned {
            self.look_at_plan(model, planned);
        }
    }

    /// What a load would do. Asking changes nothing.
    fn plan(&mut self, model: &'static str, context: Option<u32>) -> Result<Plan, Problem> {
        let before = self.rig.house.clone();
        let ticket = self.rig.ticket();
        self.rig.happen(Event::Plan { ticket, model: id(model), context });
        assert_eq!(self.rig.house, before, "a plan changes nothing");
        match self.rig.outcomes.remove(&ticket) {
            Some(Outcome::Told(Ok(Answer::Plan(plan)))) => Ok(*plan),
            Some(Outcome::Told(Err(problem))) => Err(problem),
            other => panic!("{other:?}"),
        }
    }

    fn limit(&mut self, how: u16) {
        let limit = [700, 1000, 1000, 1000][usize::from(how) % 4] * MIB;
        let timeout = IdleTimeout::After { ms: [300_000, 20_000][usize::from(how) / 4 % 2] };
        let defaults =
            Defaults { ram_limit_bytes: Some(limit), session_timeout: Some(timeout), ..Defaults::default() };
        self.ask(None, |ticket| Event::Defaults { ticket, defaults });
    }

    fn manner(&mut self, model: &str, how: u16) -> Manner {
        if how.is_multiple_of(2) {
            return Manner::Gentle;
        }
        if let Some(worker) = self.state(model).and_then(State::worker) {
            let (now, epoch) = (self.rig.now.mono, worker.epoch);
            self.drains.entry(epoch).or_insert((now, true)).1 = true;
        }
        Manner::Force
    }

    fn unload(&mut self, model: &'static str, how: u16) {
        let manner = self.manner(model, how);
        let by = "walk".to_owned();
        self.ask(Some(model), |ticket| Event::Unload { ticket, model: id(model), manner, by });
    }

    fn reload(&mut self, model: &'static str) {
        let by = "walk".to_owned();
        self.ask(Some(model), |ticket| Event::Reload { ticket, model: id(model), by });
    }

    fn clean_up(&mut self, model: &'static str, how: u16) {
        let manner = self.manner(model, how);
        let (by, dry) = ("walk".to_owned(), how.is_multiple_of(5));
        let before = self.rig.house.clone();
        self.ask(Some(model), |ticket| Event::CleanUp { ticket, model: id(model), manner, dry, by });
        if dry {
            assert_eq!(self.rig.house, before, "a dry run changes nothing");
        }
    }

    fn settings(&mut self, model: &'static str, how: u16) {
        let timeouts = [
            IdleTimeout::After { ms: 900_000 },
            IdleTimeout::After { ms: 0 },
            IdleTimeout::After { ms: 9000 },
        ];
        let (timeout, pinned, by) =
            (timeouts[usize::from(how) % 3], how.is_multiple_of(8), "walk".to_owned());
        if how.is_multiple_of(2) {
            self.ask(Some(model), |ticket| Event::Pin { ticket, model: id(model), pinned, by });
        } else {
            self.ask(Some(model), |ticket| Event::IdleTimeout {
                ticket,
                model: id(model),
                timeout: Some(timeout),
                by,
            });
        }
    }

    /// A worker does one of the things that it may do.
    fn launcher(&mut self, at: usize, how: u16) {
        let Some((&epoch, &(model, life))) = self.workers.iter().nth(at % self.workers.len().max(1)) else {
            return;
        };
        let pid = super::rig::pid(epoch);
        let heard = match (life, how % 16) {
            (Life::Going, 0..=12) => Heard::Released(release(pid)),
            (Life::Going, 13) => Heard::Stuck { pid },
            (Life::Going, 14) => Heard::Failed(failure("late")),
            (Life::Loading, 0..=1) => Heard::Spawned { pid },
            (Life::Loading, 2..=3) => {
                Heard::Progress(protocol::Progress { stage: "s".to_owned(), done: 1, total: 2 })
            }
            (Life::Loading, 4..=13) => Heard::Ready(facts(pid)),
            (_, 14) => {
                Heard::Failed(failure(if at.is_multiple_of(2) { "worker_died" } else { "out_of_memory" }))
            }
            (_, 15) => Heard::Released(release(pid)),
            (_, n) => Heard::Held { session: format!("s{}", n % 5), bytes: u64::from(how) },
        };
        match &heard {
            Heard::Ready(_) => {
                self.workers.insert(epoch, (model, Life::Ready));
                self.rested.insert(epoch, self.rig.now.boot);
                self.born.insert(epoch, self.rig.now.mono);
            }
            Heard::Failed(_) => {
                self.guests_of_rest(epoch);
                self.workers.insert(epoch, (model, Life::Going));
            }
            Heard::Released(_) => {
                self.guests_of_rest(epoch);
                self.workers.remove(&epoch);
                self.dead.push(epoch);
            }
            _ => {}
        }
        self.tell(Some(model), Event::News { epoch, heard });
    }

    fn late_word(&mut self, at: usize, how: u16) {
        let Some(epoch) = self.dead.get(at % self.dead.len().max(1)).copied() else { return };
        let heard = match how % 5 {
            0 => Heard::Spawned { pid: 5 },
            1 => Heard::Ready(facts(5)),
            2 => Heard::Failed(failure("late")),
            3 => Heard::Released(release(5)),
            _ => Heard::Stuck { pid: 5 },
        };
        let before = self.rig.house.clone();
        self.tell(None, Event::News { epoch, heard });
        assert_eq!(self.rig.house, before, "the word of a dead worker counts");
        assert!(self.rig.last.is_empty());
    }

    fn measure(&mut self, how: u16) {
        let host = Host {
            memory_total_bytes: 4000 * MIB,
            // Now and then the machine is short of memory.
            memory_available_bytes: [2000 + u64::from(how % 3000), 400][usize::from(how.is_multiple_of(17))]
                * MIB,
            swap_used_bytes: 0,
            cpu_count: 2,
            cpu_percent: 0.0,
            pressure: None,
        };
        let workers =
            self.workers.keys().map(|epoch| (super::rig::pid(*epoch), measured(u64::from(how % 300))));
        let on_gpu = self.workers.iter().filter(|(_, (model, _))| matches!(*model, "c" | "d"));
        let gpu_uses = on_gpu.map(|(epoch, _)| {
            let bytes = (!how.is_multiple_of(5)).then_some(u64::from(how % 500) * MIB);
            GpuUse { index: 0, pid: super::rig::pid(*epoch), bytes }
        });
        let sample = MemorySample {
            wall_ms: self.rig.now.wall_ms,
            begun: self.rig.now.mono,
            host,
            ram: RamTotals::default(),
            server: None,
            workers: workers.collect(),
            spare: None,
            // Now and then others take most of it, or its driver says nothing.
            gpus: (!how.is_multiple_of(19))
                .then(|| super::gpu::gpu(1000, u64::from(how % 9) * 100))
                .into_iter()
                .collect(),
            gpu_absent: None,
            gpu_uses: gpu_uses.collect(),
        };
        self.tell(None, Event::Sampled(Arc::new(sample), vec![]));
    }

    fn page(&mut self, how: u16) {
        let (key, label) = (format!("s{}", how % 5), "browser".to_owned());
        if (how / 15).is_multiple_of(3) {
            // Also what makes no sense: a browser that was killed says nothing, and words may come twice or too late.
            let what = [Hidden::Now, Hidden::Now, Hidden::NoMore, Hidden::Gone][usize::from(how / 45) % 4];
            self.guest_hides(&key, what);
            self.tell(None, Event::PageHidden { key, what });
            return;
        }
        let open = !how.is_multiple_of(3);
        self.guest_looks(&key, open);
        self.tell(None, Event::Presence { key, kind: SessionKind::Browser, label, open });
    }

    fn stock(&mut self, how: u16) {
        let there = MODELS.iter().enumerate().filter(|(n, _)| how % 16 > 1 || how >> n & 1 == 1);
        let shelf = there.map(|(_, name)| on_shelf(name)).collect();
        let ticket = self.rig.ticket();
        self.asked.insert(ticket);
        self.tell(None, Event::Stock { ticket, shelf });
    }

    fn pass(&mut self, ms: u64) {
        let target = self.rig.now.boot + Duration::from_millis(ms);
        let mut rounds = 0;
        while let Some(due) = step::next_deadline(&self.rig.house, self.rig.now).filter(|due| *due <= target)
        {
            rounds += 1;
            assert!(rounds < 1000, "the timer spins");
            self.rig.forward(due.saturating_sub(self.rig.now.boot));
            self.tell(None, Event::Timer);
        }
        self.rig.forward(target.saturating_sub(self.rig.now.boot));
        // A look that comes too early does nothing but see what time it is: what is expected of a wait changes with it.
        self.tell(None, Event::Timer);
    }

    fn state(&self, model: &str) -> Option<&State> {
        self.rig.house.models.get(&id(model)).map(|record| &record.state)
    }

    /// The server stops while `more` goes on happening, the launcher does its part, and everything must have come to
    /// an end.
    fn end(mut self, more: impl Iterator<Item = (u8, u8, u16)>) -> [usize; 5] {
        self.stopping = true;
        let now = self.rig.now.mono;
        for epoch in self.workers.keys() {
            self.drains.entry(*epoch).or_insert((now, true));
        }
        self.ask(None, |ticket| Event::ShutDown { ticket });
        self.lease("a", 0, 1);
        more.for_each(|(what, which, how)| self.go(what, which, how));
        for _ in 0..50 {
            self.pass(500);
            for (epoch, (model, life)) in self.workers.clone() {
                if life == Life::Going {
                    self.workers.remove(&epoch);
                    let mut gone = release(super::rig::pid(epoch));
                    gone.method = Method::Killed;
                    self.tell(Some(model), Event::News { epoch, heard: Heard::Released(gone) });
                }
            }
        }
        assert!(self.workers.is_empty(), "left behind: {:?}", self.workers);
        assert!(self.asked.is_empty(), "never answered: {:?}", self.asked);
        assert_eq!((self.rig.house.reserved(), self.rig.house.reserved_of_gpu(0)), (0, 0));
        [self.seen, self.evicted, self.waited, self.guests.closed, self.guests.kept]
    }
}

/// A small generator (xorshift64*), so that a long walk is the same one each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

#[test]
fn every_rule_holds_after_every_step_of_a_long_random_walk() {
    let mut done = [0; 5];
    for seed in 1..=1000 {
        let (mut walk, mut dice) = (Walk::new(), Dice(seed));
        let mut next = || {
            let [what, which, low, high, ..] = dice.roll().to_le_bytes();
            (what, which, u16::from_le_bytes([low, high]))
        };
        for _ in 0..1000 {
            let (what, which, how) = next();
            walk.go(what, which, how);
        }
        let of_walk = walk.end((0..60).map(|_| next()));
        done = std::array::from_fn(|at| done[at] + of_walk[at]);
    }
    let [answered, evicted, waited, closed, kept] = done;
    println!("a million steps: {answered} answers, {evicted} evictions, {waited} waits for room");
    println!("{closed} sessions ended by a closed page, {kept} closings that a hidden one undid");
    let enough = answered > 250_000 && evicted > 1000 && waited > 1000 && closed > 1000 && kept > 100;
    assert!(enough, "too little to prove anything: {done:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The same, where a failure is shrunk to the fewest steps.
    #[test]
    fn every_rule_holds_after_every_step_of_a_short_random_walk(
        steps in proptest::collection::vec(any::<(u8, u8, u16)>(), 0..60),
    ) {
        let mut walk = Walk::new();
        let (before, after) = steps.split_at(steps.len() * 3 / 4);
        for (what, which, how) in before {
            walk.go(*what, *which, *how);
        }
        walk.end(after.iter().copied());
    }
}
