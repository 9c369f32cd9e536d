//! Workers that die, loads that fail, and words that come too late.

use protocol::{Code, EventKind, ModelState, Reason};

use super::rig::{Rig, facts, failure, release, shelf};
use crate::event::{Event, Heard, Manner};

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
