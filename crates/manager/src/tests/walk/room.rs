//! Room, as the walk sees it: nothing is overbooked, nobody is pushed out who may stay, a plan is what the load does.

use protocol::{ModelId, Plan, Problem, Reason};

use super::Walk;
use crate::{
    model::{Await, Record, State, Worker},
    ports::{Epoch, StartOrder},
    step::House,
    tests::rig::{MIB, id},
};

/// Why a worker was pushed out in this very state, if it was.
fn evicted(state: &State) -> Option<&Worker> {
    match state {
        State::Unloading(going) if going.farewell.reason == Reason::Evicted => Some(&going.worker),
        _ => None,
    }
}

impl Walk {
    /// A model that an event was not about stays as it is, unless room is made or found.
    pub(super) fn look_at_bystander(&self, id: &ModelId, before: &Record) {
        let after = self.rig.house.models.get(id);
        if after == Some(before) {
            return;
        }
        let pushed_out = matches!(before.state, State::Ready(_))
            && after.is_some_and(|record| evicted(&record.state).is_some());
        let waited = matches!(before.state, State::Waiting { what: Await::Room(_), .. });
        assert!(pushed_out || waited, "{id} was none of its business: {before:#?} became {after:#?}");
    }

    /// A reservation is made only where limit and machine have room for it, others' promises counted.
    pub(super) fn look_at_start(&self, order: &StartOrder) {
        let house = &self.rig.house;
        let worker = house.models[&order.model].state.worker().expect("a start without a worker");
        if worker.epoch != order.epoch {
            return;
        }
        let anyway = worker.loaded_for.0 == "asked, anyway";
        let limit = house.config.ram_limit_bytes;
        assert!(anyway || house.reserved() <= limit, "{} of {limit} are reserved", house.reserved());
        if worker.gpu.is_some() {
            self.look_at_gpu(anyway);
        }
        let Some(sample) = &house.sample else { return };
        let measured = |worker: &Worker| {
            let seen = sample.workers.iter().find(|(pid, _)| Some(*pid) == worker.pid);
            seen.map_or(0, |(_, measured)| measured.private_bytes)
        };
        let workers = house.models.values().filter_map(|record| record.state.worker());
        let to_come: u64 = workers.map(|worker| worker.reserved().saturating_sub(measured(worker))).sum();
        let kept_back = if anyway { 512 * MIB } else { 1024 * MIB };
        let available = sample.host.memory_available_bytes;
        assert!(to_come + kept_back <= available, "{to_come} to come of {available} available");
    }

    /// The same of the GPU, of which nothing is promised before it was measured.
    fn look_at_gpu(&self, anyway: bool) {
        let house = &self.rig.house;
        let sample = house.sample.as_ref().expect("a GPU was promised that nobody had seen");
        let gpu = sample.gpus.first().expect("a GPU was promised that is not there");
        let reserved = house.reserved_of_gpu(0);
        assert!(anyway || reserved <= 900 * MIB, "{reserved} of its limit are reserved");
        let taken = |worker: &Worker| -> u64 {
            let uses = sample.gpu_uses.iter().filter(|held| Some(held.pid) == worker.pid);
            uses.filter_map(|held| held.bytes).sum()
        };
        let workers = house.models.values().filter_map(|record| record.state.worker());
        let to_come: u64 = workers.map(|one| one.reserved_of_gpu(0).saturating_sub(taken(one))).sum();
        let free = gpu.memory_total_bytes - gpu.memory_used_bytes;
        assert!(to_come + 20 * MIB <= free, "{to_come} to come of {free} that are free on it");
    }

    /// Who is pushed out was idle, not pinned, and had been there for its least stay; none of them goes in vain.
    pub(super) fn look_at_evictions(&mut self, before: &House) {
        let house = &self.rig.house;
        let went: Vec<(&ModelId, &Worker)> = house
            .models
            .iter()
            .filter(|(id, _)| before.models.get(*id).is_some_and(|old| evicted(&old.state).is_none()))
            .filter_map(|(id, record)| Some((id, evicted(&record.state)?)))
            .collect();
        for (id, worker) in &went {
            let epoch: Epoch = worker.epoch;
            let record = &before.models[*id];
            assert!(matches!(&record.state, State::Ready(_)), "{id} was not even ready");
            assert!(self.held.iter().all(|(_, _, held)| *held != epoch), "{id} was in use");
            assert!(!house.models[*id].is_pinned(), "{id} was pinned");
            let stayed = self.rig.now.mono - self.born[&epoch];
            assert!(stayed >= house.config.deadlines.min_stay, "{id} had been there for {stayed:?}");
        }
        if let Some((id, _)) = went.first() {
            self.look_at_need(before, id, &went);
        }
        self.evicted += went.len();
        let waits = |house: &House| house.models.values().filter(|record| record.in_line().is_some()).count();
        self.waited += waits(&self.rig.house).saturating_sub(waits(before));
    }

    /// Where the limit alone binds: with one of them fewer there would be too little.
    fn look_at_need(&self, before: &House, id: &ModelId, went: &[(&ModelId, &Worker)]) {
        let house = &self.rig.house;
        let State::Unloading(going) = &house.models[id].state else { return };
        let Some(wants) = going.farewell.by.strip_prefix("room for ") else { return };
        let plenty = house.sample.as_ref().is_none_or(|s| s.host.memory_available_bytes > 4000 * MIB);
        if !plenty || before.sample != house.sample {
            return;
        }
        let line = house.models[&wants.parse::<ModelId>().unwrap()].in_line().expect("it waits for the room");
        let need = line.need.ram;
        let leaving = |record: &&Record| matches!(record.state, State::Draining(_) | State::Unloading(_));
        let leaving: u64 =
            house.models.values().filter(leaving).map(|r| r.state.worker().unwrap().reserved()).sum();
        let have = (house.config.ram_limit_bytes + leaving).saturating_sub(house.reserved());
        for (victim, worker) in went {
            if line.need.gpu.is_some() && worker.gpu.is_some() {
                // It may be the GPU that is lacking.
                continue;
            }
            assert!(have.saturating_sub(worker.reserved()) < need, "{victim} goes in vain for {wants}");
        }
    }

    /// The load did what its plan had said a moment before.
    pub(super) fn look_at_plan(&mut self, model: &'static str, planned: Result<Plan, Problem>) {
        let record = &self.rig.house.models[&id(model)];
        let plan = match planned {
            Ok(plan) => plan,
            Err(problem) => panic!("{problem}"),
        };
        match (&record.state, plan.waits_for) {
            (State::Loading(loading), None) => {
                assert!(plan.fits && plan.evict.is_empty());
                assert_eq!(loading.worker.reserve_bytes, plan.reserve_bytes);
            }
            (State::Waiting { what: Await::Room(_), .. }, None) => {
                assert!(plan.fits && !plan.evict.is_empty());
                for one in &plan.evict {
                    assert!(
                        evicted(&self.rig.house.models[&one.model].state).is_some(),
                        "{} stays",
                        one.model
                    );
                }
            }
            (State::Waiting { what: Await::Room(line), .. }, Some(reason)) => {
                assert!(!plan.fits);
                assert_eq!(line.reason, reason);
            }
            (State::Waiting { what: Await::Pause(_), .. }, Some(_)) => assert!(!plan.fits),
            (State::Unloaded | State::Failed(_), _) => {
                let refusal = plan.refusal.expect("it was refused without a word in its plan");
                assert_eq!(self.refused.as_deref(), Some(refusal.message.as_str()));
            }
            (state, waits) => panic!("planned {waits:?}, became {state:?}"),
        }
    }
}
