//! What must hold after every step of a walk.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use protocol::Reason;

use super::{Life, MODELS, Walk};
use crate::{
    event::{Action, Ticket},
    model::{Phase, Record, State},
    ports::Epoch,
    replay::Standing,
    step,
    tests::rig::Outcome,
};

impl Walk {
    /// Everything that must hold after every step.
    pub(super) fn look(&mut self) {
        for action in self.rig.last.clone() {
            self.look_at_action(&action);
        }
        self.look_at_outcomes();
        self.look_at_house();
        self.look_at_guests();
        self.look_at_ledger();
    }

    fn look_at_action(&mut self, action: &Action) {
        match action {
            Action::Start(order) => {
                assert!(!self.stopping, "nothing is loaded by a server that stops");
                self.look_at_start(order);
                let model = MODELS.into_iter().find(|name| *name == order.model.as_str()).unwrap();
                assert!(self.workers.values().all(|(other, _)| *other != model), "two workers of {model}");
                self.workers.insert(order.epoch, (model, Life::Loading));
            }
            Action::CancelAll(epoch) => {
                let (begun, hurry) = self.drains.get(epoch).copied().expect("cut without draining");
                let waited = self.rig.now.mono.saturating_sub(begun);
                let grace = self.rig.house.config.deadlines.grace;
                assert!(hurry || self.stopping || waited >= grace, "cut after {waited:?}");
                self.cuts.insert(*epoch, self.rig.now.mono);
            }
            Action::Stop(order) => {
                let Some((model, life)) = self.workers.get(&order.epoch).copied() else {
                    panic!("an order for a worker that is gone")
                };
                if life == Life::Ready && !order.at_once {
                    let users = self.held.iter().filter(|(_, _, epoch)| *epoch == order.epoch).count();
                    let deadlines = self.rig.house.config.deadlines;
                    let cut = self.cuts.get(&order.epoch).map(|cut| self.rig.now.mono.saturating_sub(*cut));
                    let least = deadlines.cancel.min(deadlines.shutdown_cancel);
                    assert!(users == 0 || cut.is_some_and(|cut| cut >= least), "{model} was in use");
                }
                self.guests_of_rest(order.epoch);
                self.workers.insert(order.epoch, (model, Life::Going));
            }
            _ => {}
        }
    }

    fn look_at_outcomes(&mut self) {
        // Tickets are answered in any order; what is new is what was not looked at before.
        for (ticket, outcome) in &self.rig.outcomes {
            if !self.asked.remove(ticket) {
                continue;
            }
            self.seen += 1;
            if let Outcome::Told(Err(problem)) = outcome {
                self.refused = Some(problem.message.clone());
            }
            if let Outcome::Granted { epoch, .. } = outcome {
                assert!(!self.stopping, "granted by a server that stops");
                let (model, life) = self.workers[epoch];
                assert_eq!(life, Life::Ready);
                self.held.push((*ticket, model, *epoch));
                self.guests.granted(*ticket, *epoch);
            }
        }
        self.rig.outcomes.clear();
        let answered_after_leaving = self.rig.last.iter().find(|action| match action {
            Action::Grant { ticket, .. } | Action::Answer { ticket, .. } => self.left.contains(ticket),
            _ => false,
        });
        assert_eq!(answered_after_leaving, None);
    }

    fn look_at_house(&mut self) {
        let house = &self.rig.house;
        for (id, record) in &house.models {
            let epochs = self.workers.iter().filter(|(_, (model, _))| *model == id.as_str());
            let epochs: Vec<Epoch> = epochs.map(|(epoch, _)| *epoch).collect();
            let known: Vec<Epoch> = record.state.worker().map(|worker| worker.epoch).into_iter().collect();
            assert_eq!(known, epochs, "{id}: the house and the launcher know of the same workers");
            assert!(record.state.queue().is_none_or(|queue| queue.requests() <= house.config.queue));
            match &record.state {
                State::Ready(ready) => {
                    let epoch = ready.worker.epoch;
                    let held = self.held.iter().filter(|(_, _, of)| *of == epoch);
                    let held: BTreeSet<Ticket> = held.map(|(ticket, _, _)| *ticket).collect();
                    assert_eq!(held, ready.leases.keys().copied().collect(), "{id}: who holds a lease");
                    assert!(ready.queue.is_empty() || ready.leases.len() == 3, "{id}: a place is free");
                    let due = step::unload_at(house, record, |_| None);
                    assert!(due.is_none_or(|due| due.boot > self.rig.now.boot), "{id} should have gone");
                    if ready.is_idle() {
                        assert_eq!(ready.idle_since.boot, self.rested[&epoch], "{id}: idle since");
                    }
                }
                State::Draining(draining) => {
                    let begun = draining.farewell.begun.mono;
                    self.drains.entry(draining.worker.epoch).or_insert((begun, false));
                    let (Phase::Grace(until) | Phase::Cutting(until)) = draining.phase;
                    assert!(until > self.rig.now.mono, "{id}: its time is up");
                }
                State::Unloading(unloading) => {
                    assert!(unloading.deadline > self.rig.now.mono);
                    let epoch = unloading.worker.epoch;
                    if self.ended.insert(epoch) && unloading.farewell.reason == Reason::Idle {
                        self.look_at_idle_end(epoch, record);
                    }
                }
                State::Waiting { queue, .. } => assert!(queue.is_wanted(), "{id} waits for nobody"),
                _ => {}
            }
        }
    }

    /// Replaying the ledger gives the house: who has an instance that came ready, and who cannot be ended.
    fn look_at_ledger(&mut self) {
        if self.replayed == self.rig.ledger.len() {
            return;
        }
        self.replayed = self.rig.ledger.len();
        let told = crate::replay(&self.rig.ledger);
        let told: BTreeMap<_, _> =
            told.iter().map(|(id, standing)| (id.clone(), *standing == Standing::Stuck)).collect();
        let stands = |record: &Record| match &record.state {
            State::Ready(_) | State::Draining(_) => Some(false),
            State::Unloading(unloading) => unloading.worker.ready.map(|_| false),
            State::Stuck(_) => Some(true),
            _ => None,
        };
        let models = self.rig.house.models.iter();
        let so: BTreeMap<_, _> =
            models.filter_map(|(id, record)| Some((id.clone(), stands(record)?))).collect();
        assert_eq!(told, so, "the ledger tells another story");
    }

    /// The idle timer took an instance: nobody had it, and its time had come by what the walk saw of its use (the
    /// end of sessions can make it no shorter than a minute).
    fn look_at_idle_end(&self, epoch: Epoch, record: &Record) {
        assert!(!record.is_pinned());
        assert!(self.held.iter().all(|(_, _, held)| *held != epoch), "it was in use");
        let timeout =
            record.idle_timeout(self.rig.house.config.idle_timeout).ms().expect("never means never");
        let waited = self.rig.now.boot.saturating_sub(self.rested[&epoch]);
        assert!(waited >= Duration::from_millis(timeout.min(60_000)), "it went after {waited:?}");
    }
}
