//! How the house looks from outside: pure functions from state to the words of protocol.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use protocol::{
    Books, Budget, Download, Gpu, GpuBudget, Instance, Memory, Model, ModelId, ModelSample, RequestState,
    RequestView, Sample, Server, ServerState, Session, Snapshot, SpareWorker, Time, Waiting, Warning,
};

use crate::{
    books::{self, books},
    event::Ticket,
    model::{Await, Record, State, Worker, ms},
    policy::Due,
    ports::{Measured, MemorySample, Now},
    step::{House, unload_at},
    words,
};

/// A request's counters at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) state: RequestState,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
}

/// The counters of every lease.
pub(crate) type Counters = BTreeMap<Ticket, Counted>;

/// Wall time a span from now, to show.
pub(crate) fn later(now: Now, span: Duration) -> Time {
    Time::from_unix_ms(now.wall_ms.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
}

fn wall(now: Now) -> Time {
    Time::from_unix_ms(now.wall_ms)
}

fn memory(measured: Measured) -> Memory {
    Memory {
        private_bytes: measured.private_bytes,
        mapped_bytes: measured.mapped_bytes,
        gpu_bytes: measured.gpu_bytes,
        quality: measured.quality,
        measured_at: Time::from_unix_ms(measured.wall_ms),
    }
}

fn instance(worker: &Worker) -> Option<Instance> {
    let facts = worker.facts.as_ref();
    Some(Instance {
        pid: worker.pid?,
        epoch: worker.epoch.0,
        loaded_at: worker.ready.map(wall),
        load_ms: worker.load_ms(),
        device: facts.map_or_else(String::new, |facts| facts.device.clone()),
        threads: facts.map_or(0, |facts| facts.threads),
        context: facts.map_or(0, |facts| facts.context),
        sandbox: facts.map_or_else(String::new, |facts| facts.sandbox.clone()),
        served_by: facts.map_or_else(String::new, |facts| facts.served_by.clone()),
        memory: worker.memory.map(memory),
        predicted_bytes: worker.expected.map(|expected| expected.predicted_bytes),
        tokens_per_second: worker.tokens_per_second,
    })
}

fn waiting(record: &Record, now: Now) -> Option<Waiting> {
    let State::Waiting { what, .. } = &record.state else { return None };
    Some(match what {
        Await::Pause(until) => Waiting {
            reason: words::PAUSE.to_owned(),
            until: Some(later(now, until.saturating_sub(now.mono))),
        },
        Await::Room(line) => Waiting {
            reason: line.reason.clone(),
            // An estimate that did not come true is none any more.
            until: line.due.filter(|due| due.boot > now.boot).map(|due| Time::from_unix_ms(due.wall_ms)),
        },
    })
}

/// A model as it stands; `busy` are the keys of the sessions that run or wait for something.
pub(crate) fn model(id: &ModelId, record: &Record, house: &House, busy: &BTreeSet<&str>, now: Now) -> Model {
    let config = &house.config;
    let ends = |key: &str| house.sessions.ends_at(key, busy, config);
    let unload_at = unload_at(house, record, ends);
    let ready = match &record.state {
        State::Ready(ready) => Some(ready),
        _ => None,
    };
    let expected = record.expected(None);
    Model {
        id: id.clone(),
        kind: record.shelf.kind,
        family: record.shelf.family.clone(),
        quantization: record.shelf.quantization.clone(),
        size_bytes: record.shelf.size_bytes,
        state: record.state.word(),
        pinned: record.is_pinned(),
        idle_timeout_seconds: record.idle_timeout(config.idle_timeout),
        in_flight: record.state.leases().map_or(0, |leases| u32::try_from(leases.len()).unwrap_or(u32::MAX)),
        queued: record.state.queue().map_or(0, |queue| queue.requests()),
        idle_since: ready.filter(|ready| ready.is_idle()).map(|ready| wall(ready.idle_since)),
        unload_at: unload_at.map(|due: Due| Time::from_unix_ms(due.wall_ms)),
        last_reset_by: ready.map(|ready| ready.last_reset_by.clone()),
        progress: match &record.state {
            State::Loading(loading) => loading.progress.clone(),
            _ => None,
        },
        expected_bytes: expected.map(|expected| expected.predicted_bytes),
        reserve_bytes: expected.map(|expected| expected.reserve_bytes()),
        prediction_error_percent: record.shelf.lessons.last().map(|lesson| lesson.error_percent),
        peak_error_percent: record.shelf.lessons.last().and_then(|lesson| lesson.peak_error_percent),
        waiting: waiting(record, now),
        reloads_per_hour: record.past.reloads_per_hour(now.mono),
        weight: record.weight().number(),
        instances: record.state.worker().and_then(instance).into_iter().collect(),
        failure: record.past.failure.clone(),
    }
}

/// Who runs something or waits for it, oldest first.
fn requests(house: &House, counters: &Counters, now: Now) -> Vec<RequestView> {
    let mut found = Vec::new();
    for (id, record) in &house.models {
        let held = record.state.leases().into_iter().flatten();
        let held = held.map(|(ticket, (caller, since))| (*ticket, caller, *since, counters.get(ticket)));
        let queue = record.state.queue().into_iter().flat_map(|queue| queue.iter());
        let waiting = queue.filter_map(|waiter| Some((waiter.ticket, waiter.caller()?, waiter.since, None)));
        for (ticket, caller, since, counted) in held.chain(waiting) {
            let view = RequestView {
                id: caller.request.clone(),
                model: id.clone(),
                client: caller.client.clone(),
                state: counted.map_or(RequestState::Queued, |counted| counted.state),
                elapsed_ms: ms(now.mono.saturating_sub(since.mono)),
                prompt_tokens: counted.map_or(0, |counted| counted.prompt_tokens),
                completion_tokens: counted.map_or(0, |counted| counted.completion_tokens),
            };
            found.push((ticket, view));
        }
    }
    found.sort_by_key(|(ticket, _)| *ticket);
    found.into_iter().map(|(_, view)| view).collect()
}

fn sessions(house: &House, busy: &BTreeSet<&str>) -> Vec<Session> {
    let mut held = BTreeMap::<&str, u64>::new();
    for (key, bytes) in house.models.values().filter_map(|r| r.state.worker()).flat_map(|w| &w.held) {
        *held.entry(key).or_default() += bytes;
    }
    let mut shown: Vec<(Now, Session)> = house
        .sessions
        .iter()
        .map(|(key, session)| {
            let ends = house.sessions.ends_at(key, busy, &house.config);
            let view = Session {
                id: session.id.clone(),
                kind: session.kind,
                label: session.label.clone(),
                model: session.model.clone(),
                held_bytes: held.get(key.as_str()).copied().unwrap_or(0),
                requests: session.requests,
                started_at: wall(session.started),
                last_used_at: wall(session.last_used),
                last_reset_by: session.last_reset_by.clone(),
                ends_at: ends.map(|due| Time::from_unix_ms(due.wall_ms)),
                kept_by: match ends {
                    Some(_) => "",
                    None if busy.contains(key.as_str()) => "in use",
                    None if session.pages > 0 => "page open",
                    None => "no timeout",
                }
                .to_owned(),
            };
            (session.started, view)
        })
        .collect();
    shown.sort_by_key(|(started, _)| started.boot);
    shown.into_iter().map(|(_, view)| view).collect()
}

fn budget(house: &House, books: &[Books]) -> Budget {
    let gpus: &[Gpu] = house.sample.as_ref().map_or(&[], |sample| sample.gpus.as_slice());
    let used = |index: u32| {
        let device = format!("gpu:{index}");
        books.iter().find(|books| books.device == device)?.models_bytes
    };
    Budget {
        ram_limit_bytes: house.config.ram_limit_bytes,
        ram_reserved_bytes: house.reserved(),
        gpus: gpus
            .iter()
            .map(|gpu| GpuBudget {
                index: gpu.index,
                limit_bytes: house.config.gpu_limit.of(gpu.memory_total_bytes),
                reserved_bytes: used(gpu.index).map(|used| used.max(house.reserved_of_gpu(gpu.index))),
            })
            .collect(),
    }
}

fn spare(sample: &MemorySample, pids: &[u32]) -> Option<SpareWorker> {
    let (pid, held) = books::spare(sample, pids)?;
    Some(SpareWorker { pid, private_bytes: held.private_bytes })
}

/// Everything as it stands.
pub(crate) fn snapshot(
    house: &House,
    sequence: u64,
    counters: &Counters,
    downloads: Vec<Download>,
    now: Now,
) -> Snapshot {
    let sample = house.sample.as_ref();
    let facts = &house.config.server;
    let busy = house.busy_sessions();
    let books = sample.map(|sample| books(sample, &house.pids())).unwrap_or_default();
    Snapshot {
        sequence,
        at: wall(now),
        measured_at: sample.map(|sample| Time::from_unix_ms(sample.wall_ms)),
        server: Server {
            version: facts.version.clone(),
            pid: facts.pid,
            started_at: Time::from_unix_ms(facts.started_at_ms),
            private_bytes: sample.and_then(|sample| sample.server).map(|server| server.private_bytes),
            spare: sample.and_then(|sample| spare(sample, &house.pids())),
            state: if house.stopping.is_some() { ServerState::Draining } else { ServerState::Ready },
            models_dir: facts.models_dir.clone(),
        },
        host: sample.map(|sample| sample.host.clone()),
        gpu_absent: sample.and_then(|sample| sample.gpu_absent.clone()),
        gpus: sample.map(|sample| sample.gpus.clone()).unwrap_or_default(),
        budget: budget(house, &books),
        books,
        yield_until: house.yield_until.map(|due| Time::from_unix_ms(due.wall_ms)),
        downloads,
        models: house.models.iter().map(|(id, record)| model(id, record, house, &busy, now)).collect(),
        sessions: sessions(house, &busy),
        requests: requests(house, counters, now),
        receipts: house.receipts.iter().cloned().collect(),
        warnings: left_behind(house),
    }
}

/// Models of which the last unload left something behind, until one leaves nothing.
fn left_behind(house: &House) -> Vec<Warning> {
    let mut seen = BTreeSet::new();
    let newest = house.receipts.iter().filter(|receipt| seen.insert(&receipt.model));
    newest.filter_map(words::left_behind).collect()
}

/// What changes with every measurement, as far as it is known.
pub(crate) fn sample(house: &House, sequence: u64, counters: &Counters, now: Now) -> Sample {
    let measured = house.sample.as_ref();
    let loaded = house.models.iter().filter_map(|(id, record)| Some((id, record.state.worker()?)));
    Sample {
        sequence,
        at: measured.map_or(wall(now), |sample| Time::from_unix_ms(sample.wall_ms)),
        host: measured.map(|sample| sample.host.clone()),
        books: measured.map(|sample| books(sample, &house.pids())).unwrap_or_default(),
        models: loaded
            .map(|(id, worker)| ModelSample {
                id: id.clone(),
                memory: worker.memory.map(memory),
                tokens_per_second: worker.tokens_per_second,
            })
            .collect(),
        requests: requests(house, counters, now),
        server_bytes: measured.and_then(|sample| sample.server).map(|server| server.private_bytes),
        spare: measured.and_then(|sample| spare(sample, &house.pids())),
    }
}
