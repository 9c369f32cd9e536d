//! Room: who is refused, who waits, who is pushed out for whom.

use protocol::{Code, EventKind, ModelState, Reason};

use super::rig::{MIB, Rig, config, id, shelf, wish};
use crate::{
    desk::{Defaults, LoadWish},
    event::{Event, Manner},
    ports::ShelfModel,
};

/// Two that do not fit together.
fn two() -> Rig {
    Rig::with(config(), vec![shelf("a", 600), shelf("b", 600)])
}

fn lower_the_limit(rig: &mut Rig, mib: u64) {
    let ticket = rig.ticket();
    let defaults = Defaults { ram_limit_bytes: Some(mib * MIB), ..Defaults::default() };
    rig.happen(Event::Defaults { ticket, defaults });
}

fn load_anyway(rig: &mut Rig, model: &str) -> crate::event::Ticket {
    let ticket = rig.ticket();
    let by = "a person".to_owned();
    let wish = LoadWish { idle_timeout: None, context: None, wait: true, anyway: true, by };
    rig.happen(Event::Load { ticket, model: id(model), wish });
    ticket
}

#[test]
fn what_never_fits_is_refused_with_numbers_and_harms_nobody() {
    let pinned = ShelfModel { pinned: true, ..shelf("a", 600) };
    let mut rig = Rig::with(config(), vec![pinned, shelf("b", 600)]);
    rig.loaded("a");
    rig.pass_ms(20_000);
    let before = rig.house.models[&id("a")].clone();
    let lease = rig.lease("b");
    let problem = rig.refusal(lease);
    assert_eq!(problem.code, Code::InsufficientMemory);
    assert_eq!(problem.message, "`b` needs 600.0 MiB; 400.0 MiB is left of what models may use together.");
    assert!(problem.hint.starts_with("Unload `a`, which is pinned"), "{}", problem.hint);
    assert_eq!(rig.state("b"), ModelState::Unloaded);
    assert_eq!(rig.house.models[&id("a")], before);
    assert_eq!(rig.events(EventKind::Refuse)[0].model, Some(id("b")));
    assert_eq!(rig.house.reserved(), 600 * MIB);
}

#[test]
fn a_limit_that_was_lowered_takes_nothing_away_and_refuses_what_is_larger() {
    let mut rig = Rig::with(config(), vec![shelf("a", 600), shelf("b", 550)]);
    rig.loaded("a");
    lower_the_limit(&mut rig, 500);
    assert_eq!(rig.state("a"), ModelState::Ready);
    let lease = rig.lease("b");
    assert_eq!(rig.refusal(lease).code, Code::InsufficientMemory);
}

#[test]
fn an_idle_model_goes_for_another_which_waits_for_its_process_to_be_gone() {
    let mut rig = two();
    rig.loaded("a");
    rig.pass_ms(10_000);
    let load = rig.load("b");
    assert_eq!((rig.state("a"), rig.state("b")), (ModelState::Unloading, ModelState::Waiting));
    assert_eq!(rig.shown("b").waiting.unwrap().reason, "until `a` has gone");
    assert_eq!(rig.starts.len(), 1, "its reservation is not free before it is reaped");
    rig.come_back("a");
    assert_eq!(rig.state("b"), ModelState::Loading);
    rig.come_ready("b");
    assert_eq!(rig.told_model(load).state, ModelState::Ready);
    let evicted = rig.events(EventKind::Evict);
    let receipt = evicted[0].receipt.as_ref().unwrap();
    assert_eq!((receipt.reason, receipt.asked_by.as_str()), (Reason::Evicted, "room for b"));
    assert_eq!(receipt.ram.returned_bytes, 33 * MIB);
}

#[test]
fn a_busy_model_is_never_evicted_and_goes_once_it_is_idle() {
    let mut rig = two();
    rig.loaded("a");
    let lease = rig.lease("a");
    rig.pass_ms(60_000);
    rig.load("b");
    assert_eq!((rig.state("a"), rig.state("b")), (ModelState::Ready, ModelState::Waiting));
    assert_eq!(rig.shown("b").waiting.unwrap().reason, "until `a` is not in use");
    rig.back(lease, "a");
    assert_eq!(rig.state("a"), ModelState::Unloading);
}

#[test]
fn a_model_that_came_only_now_is_not_evicted_for_ten_seconds() {
    let mut rig = two();
    rig.loaded("a");
    rig.pass_ms(4000);
    rig.load("b");
    let waiting = rig.shown("b").waiting.unwrap();
    assert_eq!(waiting.until.unwrap().unix_ms() - rig.now.wall_ms, 6000);
    rig.pass_ms(5999);
    assert_eq!(rig.state("a"), ModelState::Ready);
    rig.pass_ms(1);
    assert_eq!(rig.state("a"), ModelState::Unloading, "the timer saw to it");
}

#[test]
fn no_more_are_evicted_than_needed_and_the_one_that_was_idle_longest_goes_first() {
    let models = vec![shelf("a", 300), shelf("b", 300), shelf("c", 300), shelf("d", 200)];
    let mut rig = Rig::with(config(), models);
    for model in ["a", "b", "c"] {
        rig.loaded(model);
        rig.pass_ms(1000);
    }
    rig.pass_ms(20_000);
    let lease = rig.lease("a");
    rig.back(lease, "a");
    assert_eq!(rig.plan("d", None).evict.iter().map(|one| one.model.as_str()).collect::<Vec<_>>(), ["b"]);
    rig.load("d");
    assert_eq!(["a", "b", "c"].map(|model| rig.state(model) == ModelState::Unloading), [false, true, false]);
}

#[test]
fn those_who_wait_for_room_get_it_in_the_order_in_which_they_came() {
    let models = vec![shelf("a", 600), shelf("b", 700), shelf("c", 300)];
    let mut rig = Rig::with(config(), models);
    rig.loaded("a");
    let lease = rig.lease("a");
    rig.load("b");
    rig.load("c");
    assert_eq!(rig.state("c"), ModelState::Waiting, "it would fit, but takes nothing from those before it");
    rig.pass_ms(20_000);
    rig.back(lease, "a");
    rig.come_back("a");
    assert_eq!((rig.state("b"), rig.state("c")), (ModelState::Loading, ModelState::Loading));
}

#[test]
fn whoever_waits_for_room_can_give_up_or_is_told_in_the_end() {
    let mut rig = two();
    rig.loaded("a");
    let _lease = rig.lease("a");
    let (patient, other) = (rig.lease("b"), rig.lease("b"));
    rig.happen(Event::Leave { ticket: other });
    assert_eq!(rig.state("b"), ModelState::Waiting);
    rig.pass_ms(600_000);
    assert_eq!(rig.refusal(patient).code, Code::TimedOut);
    assert_eq!(rig.state("b"), ModelState::Unloaded);
    let load = rig.load("b");
    rig.unload("b", Manner::Gentle);
    assert_eq!(rig.refusal(load).code, Code::LoadCancelled);
    let load = rig.load("b");
    rig.pass_ms(600_000);
    assert_eq!(rig.refusal(load).code, Code::TimedOut, "a load waits no longer than a request");
}

#[test]
fn two_loads_at_once_never_both_see_the_same_room() {
    let mut rig = two();
    let (first, second) = (rig.load("a"), rig.load("b"));
    assert!(rig.waits(first) && rig.waits(second));
    assert_eq!((rig.state("a"), rig.state("b")), (ModelState::Loading, ModelState::Waiting));
    assert_eq!(rig.house.reserved(), 600 * MIB);
}

#[test]
fn freed_memory_that_is_not_in_the_measurement_yet_pushes_nobody_else_out() {
    let models = vec![shelf("a", 300), shelf("b", 300), shelf("c", 300)];
    let mut rig = Rig::with(config(), models);
    for model in ["a", "b"] {
        rig.loaded(model);
    }
    // 1 GiB is kept back and 134 MiB of the reservations are taken: 300 MiB are missing on the machine.
    let workers = ["a", "b"].map(|model| (rig.epoch(model), 33));
    rig.measure(1024 + 534, &workers);
    rig.pass_ms(20_000);
    rig.measure(1024 + 534, &workers);
    rig.load("c");
    assert_eq!(rig.events(EventKind::Evict).len(), 0);
    let going: Vec<_> = ["a", "b"].into_iter().filter(|m| rig.state(m) == ModelState::Unloading).collect();
    assert_eq!(going, ["a"]);
    rig.come_back("a");
    assert_eq!((rig.state("b"), rig.state("c")), (ModelState::Ready, ModelState::Waiting));
    assert_eq!(rig.shown("c").waiting.unwrap().reason, "until the freed memory has been measured");
    rig.pass_ms(1000);
    let workers = [(rig.epoch("b"), 33)];
    rig.measure(1024 + 567, &workers);
    assert_eq!((rig.state("b"), rig.state("c")), (ModelState::Ready, ModelState::Loading));
}

#[test]
fn a_person_may_go_past_the_limit_and_that_is_written_down() {
    let mut rig = Rig::with(config(), vec![shelf("a", 600), shelf("b", 1200)]);
    let load = rig.load("b");
    assert!(rig.refusal(load).hint.contains("load it anyway"));
    let load = load_anyway(&mut rig, "b");
    rig.come_ready("b");
    assert_eq!(rig.told_model(load).state, ModelState::Ready);
    assert_eq!(rig.events(EventKind::Load)[0].reason, "asked, anyway");
}

#[test]
fn nobody_may_take_what_other_programs_need_to_go_on() {
    let mut rig = Rig::with(config(), vec![shelf("b", 1200)]);
    // The floor is half of the reserve of 1 GiB.
    rig.measure(512 + 1199, &[]);
    let load = load_anyway(&mut rig, "b");
    let problem = rig.refusal(load);
    assert_eq!(problem.code, Code::InsufficientMemory);
    assert!(problem.message.ends_with("1.2 GiB is free on this machine."), "{}", problem.message);
    rig.measure(512 + 1200, &[]);
    let load = load_anyway(&mut rig, "b");
    assert!(rig.waits(load));
}

#[test]
fn while_the_machine_runs_short_loads_are_refused_and_idle_models_go() {
    let models = vec![shelf("a", 100), shelf("b", 100), shelf("c", 100)];
    let mut rig = Rig::with(config(), models);
    for model in ["a", "b"] {
        rig.loaded(model);
    }
    let _lease = rig.lease("b");
    rig.pass_ms(20_000);
    rig.measure(400, &[]);
    assert_eq!((rig.state("a"), rig.state("b")), (ModelState::Unloading, ModelState::Ready));
    let load = rig.load("c");
    let problem = rig.refusal(load);
    assert_eq!((problem.code, problem.retry_after_seconds), (Code::InsufficientMemory, Some(10)));
    assert!(problem.message.contains("400.0 MiB of memory are available"), "{}", problem.message);
    rig.come_back("a");
    assert_eq!(rig.events(EventKind::Evict)[0].asked_by, "memory pressure");
    rig.measure(9000, &[]);
    rig.pass_ms(9999);
    let load = rig.load("c");
    assert_eq!(rig.refusal(load).code, Code::InsufficientMemory, "ten seconds of quiet are wanted");
    rig.pass_ms(1);
    let load = rig.load("c");
    assert!(rig.waits(load));
}

#[test]
fn a_request_that_waits_for_room_is_served_once_there_is_some() {
    let mut rig = two();
    rig.loaded("a");
    rig.pass_ms(10_000);
    let lease = rig.lease_as(wish("b"));
    rig.come_back("a");
    rig.come_ready("b");
    assert!(rig.is_granted(lease));
}

#[test]
fn reloads_within_an_hour_are_counted() {
    let mut rig = two();
    rig.loaded("a");
    assert_eq!(rig.shown("a").reloads_per_hour, 0);
    for _ in 0..2 {
        rig.unload("a", Manner::Gentle);
        rig.come_back("a");
        rig.loaded("a");
    }
    assert_eq!(rig.shown("a").reloads_per_hour, 2);
    rig.pass_ms(3_600_000);
    assert_eq!(rig.shown("a").reloads_per_hour, 0);
}

#[test]
fn the_room_that_is_kept_for_somebody_who_waits_is_what_it_needs_now() {
    let mut rig = Rig::with(config(), vec![shelf("a", 600), shelf("b", 500), shelf("c", 300)]);
    rig.loaded("a");
    let _lease = rig.lease("a");
    rig.load("b");
    let need = |rig: &Rig| rig.house.models[&id("b")].in_line().unwrap().need.ram;
    assert_eq!(need(&rig), 500 * MIB);
    let ticket = rig.ticket();
    let by = "a person".to_owned();
    let wish = LoadWish { idle_timeout: None, context: Some(4096), wait: true, anyway: false, by };
    rig.happen(Event::Load { ticket, model: id("b"), wish });
    assert_eq!(need(&rig), 750 * MIB, "a longer context is more cache");
    assert_eq!(rig.plan("c", None).waits_for.as_deref(), Some("until those have room who asked before"));
}

#[test]
fn a_later_wish_takes_back_nothing_of_an_earlier_one() {
    let mut rig = Rig::with(config(), vec![shelf("a", 600), shelf("b", 1200)]);
    rig.measure(512 + 1300, &[]);
    let a = rig.loaded("a");
    rig.measure(512 + 1300 - 33, &[(a, 33)]);
    let lease = rig.lease("a");
    let ticket = rig.ticket();
    let by = "a person".to_owned();
    let idle_timeout = Some(protocol::IdleTimeout::Never);
    let wish = LoadWish { idle_timeout, context: Some(1024), wait: true, anyway: true, by };
    rig.happen(Event::Load { ticket, model: id("b"), wish });
    assert_eq!(rig.state("b"), ModelState::Waiting);
    rig.load("b");
    rig.pass_ms(20_000);
    rig.back(lease, "a");
    rig.come_back("a");
    rig.pass_ms(1000);
    rig.measure(512 + 1300, &[]);
    assert_eq!(rig.state("b"), ModelState::Loading, "it still goes past the limit");
    assert_eq!(rig.starts.last().unwrap().context, Some(1024));
    rig.come_ready("b");
    let loads = rig.events(EventKind::Load);
    let told = loads.last().unwrap();
    assert_eq!((told.reason.as_str(), told.asked_by.as_str()), ("asked, anyway", "a person"));
    assert_eq!(rig.shown("b").idle_timeout_seconds, protocol::IdleTimeout::Never);
}

#[test]
fn freed_memory_counts_as_coming_until_a_later_measurement_whatever_the_wall_clock_does() {
    let mut rig = two();
    rig.measure(9000, &[]);
    for set_back_ms in [3_600_000, -3_600_000] {
        rig.loaded("a");
        rig.unload("a", Manner::Gentle);
        rig.come_back("a");
        assert!(rig.house.freed.is_some());
        rig.pass_ms(1000);
        rig.now.wall_ms -= set_back_ms;
        rig.measure(9000, &[]);
        assert_eq!(rig.house.freed, None, "it is in the measurement");
    }
    rig.loaded("a");
    let stale = rig.house.sample.clone().unwrap();
    rig.pass_ms(1000);
    rig.unload("a", Manner::Gentle);
    rig.come_back("a");
    let late = crate::ports::MemorySample { wall_ms: i64::MAX, ..(*stale).clone() };
    rig.happen(Event::Sampled(std::sync::Arc::new(late), vec![]));
    assert!(rig.house.freed.is_some(), "that measurement was begun before");
}

fn weigh(rig: &mut Rig, model: &str, weight: &str) {
    let ticket = rig.ticket();
    let weight = weight.parse().unwrap();
    rig.happen(Event::Weigh { ticket, model: id(model), weight, by: "a person".to_owned() });
}

#[test]
fn a_model_of_more_weight_goes_later_than_one_that_was_used_after_it() {
    let mut rig = Rig::with(config(), vec![shelf("a", 600), shelf("b", 600), shelf("c", 990)]);
    for model in ["a", "b"] {
        rig.loaded(model);
        rig.unload(model, Manner::Gentle);
        rig.come_back(model);
        rig.loaded(model);
        rig.pass_ms(10_000);
    }
    let who = |rig: &mut Rig| {
        let plan = rig.plan("c", Some(1024));
        plan.evict.iter().map(|one| one.model.to_string()).collect::<Vec<_>>()
    };
    lower_the_limit(&mut rig, 1100);
    assert_eq!(who(&mut rig), ["a"], "idle for 20 s, not for 10");
    weigh(&mut rig, "a", "3");
    assert_eq!(who(&mut rig), ["b"]);
    assert_eq!(rig.events(EventKind::Settings).last().unwrap().reason, "weight 3");
    weigh(&mut rig, "a", "1");
    weigh(&mut rig, "b", "0.4");
    assert_eq!(who(&mut rig), ["b"], "less weight of the other is the same");
}
