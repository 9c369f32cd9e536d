//! Workers that die, loads that fail, and words that come too late.

use protocol::{Code, EventKind, ModelState, Reason};

use super::rig::{Rig, facts, failure, id, release, shelf, wish};
use crate::{
    event::{Event, Heard, Manner},
    lease::LeaseWish,
};

/// Loads a model and lets it die; returns when its process is gone.
fn crash(rig: &mut Rig, model: &str) {
    rig.lease(model);
    rig.come_ready(model);
    rig.fail(model, "worker_died");
    rig.come_back(model);
}

#[test]
fn a_load_that_fails_tells_those_who_waited_why_and_leaves_the_other_models_alone() {
    let mut rig = Rig::new();
    rig.loaded("b");
    let other = rig.full_state("b").clone();
    let waiting = [rig.lease("a"), rig.load("a")];
    rig.fail("a", "internal");
    for waiter in waiting {
        assert_eq!(rig.refusal(waiter).code, Code::LoadFailed);
        assert!(rig.refusal(waiter).message.contains("It broke."));
    }
    assert_eq!(rig.state("a"), ModelState::Unloading, "its process is not gone yet");
    rig.come_back("a");
    assert_eq!(rig.state("a"), ModelState::Failed);
    assert_eq!(rig.full_state("b"), &other);
    let shown = rig.shown("a").failure.unwrap();
    assert_eq!(shown.log_tail, ["last words"]);
    assert_eq!(shown.retry_at.unwrap().unix_ms(), rig.now.wall_ms + 500);
}

#[test]
fn the_requests_of_a_worker_that_died_are_told_and_those_in_line_wait_for_the_next() {
    let mut config = super::rig::config();
    config.in_flight = 1;
    let mut rig = Rig::with(config, vec![shelf("a", 100)]);
    rig.loaded("a");
    let (running, in_line) = (rig.lease("a"), rig.lease("a"));
    rig.fail("a", "worker_died");
    assert_eq!(rig.stopped_requests(), [running]);
    assert!(rig.waits(in_line));
    rig.come_back("a");
    assert_eq!(rig.state("a"), ModelState::Waiting);
    rig.pass_ms(500);
    rig.come_ready("a");
    assert!(rig.is_granted(in_line));
    let receipt = &rig.house.receipts[0];
    assert_eq!(receipt.reason, Reason::Failed);
    assert_eq!(rig.events(EventKind::Crash).len(), 1);
    assert_eq!(rig.shown("a").failure, None, "the next load succeeded");
}

#[test]
fn requests_wait_while_a_model_rests_after_a_crash() {
    let mut rig = Rig::new();
    crash(&mut rig, "a");
    let waiting = rig.lease("a");
    assert_eq!(rig.state("a"), ModelState::Waiting);
    rig.pass_ms(499);
    assert_eq!(rig.starts.len(), 1);
    rig.pass_ms(1);
    assert_eq!(rig.starts.len(), 2);
    rig.come_ready("a");
    assert!(rig.is_granted(waiting));
}

#[test]
fn when_nobody_waits_any_more_a_resting_model_is_not_loaded() {
    let mut rig = Rig::new();
    crash(&mut rig, "a");
    let waiting = rig.lease("a");
    rig.happen(Event::Leave { ticket: waiting });
    assert_eq!(rig.state("a"), ModelState::Failed);
    rig.pass_ms(10_000);
    assert_eq!(rig.starts.len(), 1);
}

#[test]
fn unloading_a_resting_model_lets_go_those_who_wait() {
    let mut rig = Rig::new();
    crash(&mut rig, "a");
    let waiting = rig.lease("a");
    let unload = rig.unload("a", Manner::Gentle);
    assert_eq!(rig.refusal(waiting).code, Code::LoadCancelled);
    assert_eq!(rig.receipt(unload).verdict, protocol::Verdict::NotLoaded);
    assert_eq!(rig.state("a"), ModelState::Failed);
}

#[test]
fn three_crashes_within_a_minute_quarantine_a_model_until_somebody_reloads_it() {
    let mut rig = Rig::new();
    for _ in 0..3 {
        crash(&mut rig, "a");
        rig.pass_ms(5000);
    }
    assert_eq!(rig.state("a"), ModelState::Failed);
    rig.pass_ms(3_600_000);
    for refused in [rig.lease("a"), rig.load("a")] {
        assert_eq!(rig.refusal(refused).code, Code::Quarantined);
        assert!(rig.refusal(refused).message.contains("It broke."));
    }
    assert_eq!(rig.shown("a").failure.unwrap().retry_at, None);
    let reload = rig.reload("a");
    rig.come_ready("a");
    assert_eq!(rig.reloaded(reload).model.state, ModelState::Ready);
    rig.fail("a", "worker_died");
    rig.come_back("a");
    rig.pass_ms(500);
    let lease = rig.lease("a");
    assert!(rig.waits(lease), "a reload forgives what was before it");
}

#[test]
fn every_refusal_is_written_down_with_what_it_would_have_taken_and_how_long_it_waited() {
    let mut config = super::rig::config();
    config.in_flight = 1;
    let mut rig = Rig::with(config, vec![shelf("a", 100), shelf("b", 100), shelf("c", 100)]);
    for _ in 0..3 {
        crash(&mut rig, "a");
        rig.pass_ms(5000);
    }
    rig.lease("a");
    rig.loaded("b");
    rig.lease("b");
    rig.lease("b");
    rig.pass_ms(600_000);
    rig.loaded("c");
    rig.unload("c", Manner::Gentle);
    rig.pass_ms(20_000);
    rig.lease("c");
    let told: Vec<_> = rig.events(EventKind::Refuse);
    let told: Vec<_> = told
        .iter()
        .map(|event| {
            (event.model.clone().unwrap(), event.detail.as_str(), event.bytes_after, event.duration_ms)
        })
        .collect();
    // The 33 MiB that it had taken at ready, and the cache of its header.
    let (mib, waited) = (Some(83 * super::rig::MIB), Some(600_000));
    assert_eq!(
        told,
        [
            (id("a"), "quarantined", mib, Some(0)),
            (id("b"), "timed_out", mib, waited),
            (id("c"), "conflict", mib, None),
        ]
    );
}

#[test]
fn a_model_is_not_to_blame_for_a_process_that_could_not_be_started() {
    let mut rig = Rig::new();
    for code in ["load_failed", "load_failed", "load_failed", "conflict", "conflict", "conflict"] {
        let waiting = rig.lease("a");
        if code == "conflict" {
            // There was a process, and the model's files could not be opened for it.
            let epoch = rig.epoch("a");
            rig.news(epoch, Heard::Spawned { pid: 7 });
        }
        rig.fail("a", code);
        assert_eq!(rig.refusal(waiting).code, Code::LoadFailed);
        assert!(rig.refusal(waiting).message.contains("It broke."));
        rig.come_back("a");
        let shown = rig.shown("a").failure.unwrap();
        assert_eq!(shown.retry_at.unwrap().unix_ms(), rig.now.wall_ms + 500, "no pause grows");
        rig.pass_ms(500);
    }
    let waiting = rig.lease("a");
    rig.come_ready("a");
    assert!(rig.is_granted(waiting));
}

#[test]
fn whoever_waits_when_a_model_goes_into_quarantine_is_told() {
    let mut rig = Rig::new();
    crash(&mut rig, "a");
    rig.pass_ms(1000);
    crash(&mut rig, "a");
    rig.pass_ms(2000);
    rig.lease("a");
    rig.come_ready("a");
    rig.fail("a", "worker_died");
    let next = rig.lease("a");
    rig.come_back("a");
    assert_eq!(rig.refusal(next).code, Code::Quarantined);
}

#[test]
fn a_file_that_cannot_be_run_is_not_tried_again_and_says_why_each_time() {
    let mut rig = Rig::new();
    let first = rig.lease("a");
    rig.fail("a", "unsupported_model");
    rig.come_back("a");
    rig.pass_ms(3_600_000);
    let second = rig.lease("a");
    assert_eq!(rig.refusal(first).code, Code::UnsupportedModel);
    assert_eq!(rig.refusal(second), rig.refusal(first));
    assert_eq!(rig.starts.len(), 1);
    let mut other = shelf("a", 100);
    other.files = "another".to_owned();
    let ticket = rig.ticket();
    rig.happen(Event::Stock { ticket, shelf: vec![other] });
    let third = rig.lease("a");
    assert!(rig.waits(third), "another file under that name is another model");
}

#[test]
fn a_load_without_memory_is_tried_once_more_after_idle_models_have_gone_and_then_never_the_same_again() {
    let mut rig = Rig::new();
    rig.loaded("b");
    rig.pass_ms(20_000);
    let waiting = [rig.lease("a"), rig.load("a")];
    rig.fail("a", "out_of_memory");
    assert!(waiting.iter().all(|&one| rig.waits(one)), "nobody is refused yet");
    assert_eq!(rig.state("b"), ModelState::Unloading, "the idle one goes");
    rig.come_back("a");
    rig.pass_ms(5000);
    assert_eq!(rig.state("a"), ModelState::Waiting, "the other's memory is not back yet");
    rig.come_back("b");
    rig.pass_ms(1);
    assert_eq!(rig.state("a"), ModelState::Loading);
    assert_eq!(rig.house.receipts[0].asked_by, "a, whose load ran out of memory");
    rig.fail("a", "out_of_memory");
    assert!(waiting.iter().all(|&one| rig.refusal(one).code == Code::OutOfMemory));
    rig.come_back("a");
    rig.pass_ms(3_600_000);
    let (starts, third) = (rig.starts.len(), rig.lease("a"));
    assert_eq!(rig.refusal(third).code, Code::OutOfMemory);
    assert!(rig.refusal(third).hint.contains("smaller context"));
    assert_eq!(rig.starts.len(), starts);
    let smaller = rig.lease_as(LeaseWish { context: Some(512), ..wish("a") });
    assert!(rig.waits(smaller), "another configuration is another load");
    rig.come_ready("a");
    assert!(rig.is_granted(smaller));
}

#[test]
fn a_reload_or_a_load_that_succeeds_forgives_that_memory_ran_out() {
    let mut rig = Rig::new();
    rig.lease("a");
    for _ in 0..2 {
        rig.fail("a", "out_of_memory");
        rig.come_back("a");
        rig.pass_ms(5000);
    }
    let refused = rig.load("a");
    assert_eq!(rig.refusal(refused).code, Code::OutOfMemory);
    let reload = rig.reload("a");
    rig.fail("a", "out_of_memory");
    assert!(rig.waits(reload), "it has its second try again");
    rig.come_back("a");
    rig.pass_ms(60_000);
    rig.come_ready("a");
    assert_eq!(rig.reloaded(reload).model.state, ModelState::Ready);
    assert_eq!(rig.house.models[&id("a")].past.starved, None);
}

#[test]
fn a_worker_that_is_gone_without_a_word_has_crashed() {
    let mut rig = Rig::new();
    let epoch = rig.loaded("a");
    let running = rig.lease("a");
    rig.news(epoch, Heard::Released(release(1001)));
    assert_eq!(rig.stopped_requests(), [running]);
    assert_eq!(rig.state("a"), ModelState::Failed);
    assert_eq!(rig.events(EventKind::Crash).len(), 1);
    assert_eq!(rig.house.receipts.len(), 1);
}

#[test]
fn a_worker_that_dies_while_it_drains_is_unloaded_for_the_reason_it_was() {
    let mut rig = Rig::new();
    rig.loaded("a");
    let running = rig.lease("a");
    let unload = rig.unload("a", Manner::Gentle);
    rig.fail("a", "worker_died");
    assert_eq!(rig.stopped_requests(), [running]);
    rig.come_back("a");
    assert_eq!(rig.receipt(unload).reason, Reason::Asked);
    assert_eq!(rig.state("a"), ModelState::Unloaded);
}

#[test]
fn the_late_word_of_a_dead_worker_changes_nothing() {
    let mut rig = Rig::new();
    let old = rig.loaded("a");
    rig.unload("a", Manner::Gentle);
    rig.come_back("a");
    rig.loaded("a");
    let before = rig.house.clone();
    for heard in [
        Heard::Spawned { pid: 9 },
        Heard::Ready(facts(9)),
        Heard::Failed(failure("internal")),
        Heard::Released(release(9)),
        Heard::Stuck { pid: 9 },
        Heard::Held { session: "s".to_owned(), bytes: 9 },
    ] {
        rig.news(old, heard);
        assert_eq!(rig.house, before);
        assert!(rig.last.is_empty());
    }
}

#[test]
fn a_load_that_never_had_a_process_leaves_no_receipt() {
    let mut rig = Rig::new();
    rig.lease("a");
    let epoch = rig.epoch("a");
    rig.news(epoch, Heard::Failed(failure("internal")));
    let mut nothing = release(0);
    (nothing.pid, nothing.held) = (None, None);
    rig.news(epoch, Heard::Released(nothing));
    assert_eq!(rig.state("a"), ModelState::Failed);
    assert!(rig.house.receipts.is_empty());
    assert_eq!(rig.events(EventKind::Crash).len(), 1);
}
