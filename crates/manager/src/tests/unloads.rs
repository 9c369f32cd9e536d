//! Unload, reload, clean-up, stop: one way to go, several reasons.

use protocol::{Code, EventKind, Method, ModelState, Reason, Verdict};

use super::rig::{MIB, Rig, measured, pid};
use crate::{
    event::{Action, Answer, Heard, Manner},
    ports::Release,
};

#[test]
fn an_idle_model_goes_at_once_and_the_receipt_says_what_came_back() {
    let mut rig = Rig::new();
    let epoch = rig.loaded("a");
    let unload = rig.unload("a", Manner::Gentle);
    assert_eq!(rig.stops.len(), 1);
    assert!(rig.waits(unload), "it is finished when the memory is back");
    rig.pass_ms(120);
    rig.come_back("a");
    let receipt = rig.receipt(unload);
    assert_eq!((receipt.verdict, receipt.reason), (Verdict::Returned, Reason::Asked));
    assert_eq!((receipt.ram.held_bytes, receipt.ram.returned_bytes), (33 * MIB, 33 * MIB));
    assert_eq!((receipt.pid, receipt.duration_ms), (Some(pid(epoch)), 120));
    assert_eq!(rig.state("a"), ModelState::Unloaded);
    let event = rig.events(EventKind::Unload)[0];
    assert_eq!(event.id, receipt.id);
    assert_eq!(event.receipt.as_ref(), Some(&receipt));
    assert_eq!(rig.house.receipts[0], receipt);
}

#[test]
fn memory_that_did_not_come_back_is_called_a_residual_and_named() {
    let mut rig = Rig::new();
    let epoch = rig.loaded("a");
    let unload = rig.unload("a", Manner::Gentle);
    let left = vec!["process 4121 holds 4.0 MiB".to_owned()];
    let release = Release {
        pid: Some(pid(epoch)),
        method: Method::Killed,
        held: Some(measured(33)),
        residual_bytes: 4 * MIB,
        gpus: Vec::new(),
        left: left.clone(),
        evidence: None,
    };
    rig.news(epoch, Heard::Released(release));
    let receipt = rig.receipt(unload);
    assert_eq!((receipt.verdict, receipt.method), (Verdict::Residual, Method::Killed));
    assert_eq!((receipt.ram.returned_bytes, receipt.ram.residual_bytes), (29 * MIB, 4 * MIB));
    assert_eq!(receipt.left, left);
}

#[test]
fn what_a_gpus_driver_does_not_give_back_is_a_residual_of_the_receipt() {
    let mut rig = Rig::new();
    let epoch = rig.loaded("a");
    let unload = rig.unload("a", Manner::Gentle);
    let gpus = vec![protocol::DeviceReturn {
        index: 1,
        held_bytes: 900 * MIB,
        returned_bytes: 500 * MIB,
        residual_bytes: 400 * MIB,
    }];
    let left = vec!["GPU 1 keeps 400.0 MiB.".to_owned()];
    rig.news(epoch, Heard::Released(Release { gpus: gpus.clone(), left, ..super::rig::release(pid(epoch)) }));
    let receipt = rig.receipt(unload);
    assert_eq!((receipt.verdict, receipt.ram.residual_bytes), (Verdict::Residual, 0));
    assert_eq!(receipt.gpus, gpus);
}

#[test]
fn unloading_what_is_not_loaded_is_no_failure() {
    let mut rig = Rig::new();
    let unload = rig.unload("a", Manner::Gentle);
    assert_eq!(rig.receipt(unload).verdict, Verdict::NotLoaded);
    let unknown = rig.unload("nobody", Manner::Gentle);
    assert_eq!(rig.refusal(unknown).code, Code::UnknownModel);
}

#[test]
fn an_unload_waits_for_the_requests_in_flight() {
    let mut rig = Rig::new();
    rig.loaded("a");
    let leases = [rig.lease("a"), rig.lease("a")];
    let unload = rig.unload("a", Manner::Gentle);
    rig.pass_ms(29_000);
    rig.back(leases[0], "a");
    assert!(rig.stops.is_empty(), "one is still in flight");
    rig.back(leases[1], "a");
    assert_eq!(rig.stops.len(), 1);
    assert!(!rig.stops[0].at_once);
    rig.come_back("a");
    assert_eq!(rig.receipt(unload).cut_off_requests, 0);
    assert_eq!(rig.receipt(unload).duration_ms, 29_000);
}

#[test]
fn when_the_grace_has_ended_requests_are_cut_and_counted() {
    let mut rig = Rig::new();
    rig.loaded("a");
    let leases = [rig.lease("a"), rig.lease("a")];
    let unload = rig.unload("a", Manner::Gentle);
    rig.pass_ms(29_999);
    assert!(rig.ledger.len() == 1 && rig.stops.is_empty());
    rig.pass_ms(1);
    assert_eq!(rig.stopped_requests(), leases);
    assert!(rig.last.contains(&Action::CancelAll(rig.epoch("a"))));
    assert!(rig.stops.is_empty(), "they have two seconds to say their last word");
    rig.back(leases[0], "a");
    rig.pass_ms(2000);
    assert_eq!(rig.stops.len(), 1);
    rig.come_back("a");
    assert_eq!(rig.receipt(unload).cut_off_requests, 2);
    let before = rig.house.clone();
    rig.back(leases[1], "a");
    assert_eq!(rig.house, before, "it came too late to matter");
}

#[test]
fn force_cuts_at_once_also_where_somebody_else_had_asked_gently() {
    let mut rig = Rig::new();
    rig.loaded("a");
    let lease = rig.lease("a");
    let gentle = rig.unload("a", Manner::Gentle);
    assert!(rig.stopped_requests().is_empty());
    let force = rig.unload("a", Manner::Force);
    assert_eq!(rig.stopped_requests(), [lease]);
    rig.back(lease, "a");
    assert_eq!(rig.stops.len(), 1, "nobody is left to wait for");
    rig.come_back("a");
    assert_eq!(rig.receipt(gentle), rig.receipt(force));
    assert_eq!(rig.receipt(force).cut_off_requests, 1);
}

#[test]
fn whoever_comes_while_a_model_goes_waits_for_the_next_instance() {
    let mut rig = Rig::new();
    let first = rig.loaded("a");
    let lease = rig.lease("a");
    rig.unload("a", Manner::Gentle);
    let early = rig.lease("a");
    assert!(rig.waits(early), "nothing new is granted by a model that goes");
    rig.back(lease, "a");
    let late = rig.lease("a");
    assert_eq!(rig.starts.len(), 1, "never two workers of one model");
    rig.come_back("a");
    assert_eq!(rig.starts.len(), 2);
    let second = rig.come_ready("a");
    assert_ne!(first, second);
    assert_eq!(rig.granted(early).0, second);
    assert_eq!(rig.granted(late).0, second);
}

#[test]
fn unloading_a_model_that_loads_cancels_the_load() {
    let mut rig = Rig::new();
    let (lease, load) = (rig.lease("a"), rig.load("a"));
    let unload = rig.unload("a", Manner::Gentle);
    for waiter in [lease, load] {
        assert_eq!(rig.refusal(waiter).code, Code::LoadCancelled);
        assert!(rig.refusal(waiter).retry_after_seconds.is_some());
    }
    assert!(rig.stops[0].at_once);
    rig.come_back("a");
    assert_eq!(rig.receipt(unload).reason, Reason::Asked);
    assert_eq!(rig.state("a"), ModelState::Unloaded);
}

#[test]
fn an_instance_that_comes_ready_after_its_load_was_cancelled_serves_nobody() {
    let mut rig = Rig::new();
    rig.lease("a");
    let epoch = rig.epoch("a");
    rig.unload("a", Manner::Gentle);
    rig.news(epoch, Heard::Ready(super::rig::facts(1)));
    assert_eq!(rig.state("a"), ModelState::Unloading);
    let lease = rig.lease("a");
    assert!(rig.waits(lease));
}

#[test]
fn a_later_unload_takes_back_what_was_to_come_next() {
    let mut rig = Rig::new();
    rig.loaded("a");
    rig.lease("a");
    let reload = rig.reload("a");
    let newcomer = rig.lease("a");
    let unload = rig.unload("a", Manner::Force);
    assert_eq!(rig.refusal(reload).code, Code::LoadCancelled);
    assert_eq!(rig.refusal(newcomer).code, Code::LoadCancelled);
    rig.pass_ms(2000);
    rig.come_back("a");
    assert_eq!(rig.receipt(unload).reason, Reason::Asked);
    assert_eq!(rig.state("a"), ModelState::Unloaded);
}

#[test]
fn a_reload_drains_then_cuts_then_loads_and_newcomers_wait_for_the_new_instance() {
    let mut rig = Rig::new();
    let first = rig.loaded("a");
    let streaming = rig.lease("a");
    let reload = rig.reload("a");
    let newcomer = rig.lease("a");
    rig.pass_ms(30_000);
    assert_eq!(rig.stopped_requests(), [streaming]);
    rig.back(streaming, "a");
    rig.come_back("a");
    assert!(rig.waits(reload));
    let second = rig.come_ready("a");
    assert_eq!(rig.granted(newcomer).0, second);
    let answer = rig.reloaded(reload);
    assert_eq!((answer.receipt.reason, answer.receipt.cut_off_requests), (Reason::Reload, 1));
    assert_eq!(answer.receipt.pid, Some(pid(first)));
    assert_eq!(answer.model.instances[0].epoch, second.0);
}

#[test]
fn a_reload_of_what_is_not_loaded_is_a_load() {
    let mut rig = Rig::new();
    let reload = rig.reload("a");
    rig.come_ready("a");
    assert_eq!(rig.reloaded(reload).receipt.verdict, Verdict::NotLoaded);
    assert_eq!(rig.reloaded(reload).model.state, ModelState::Ready);
}

#[test]
fn a_reload_of_a_model_that_loads_begins_again_and_keeps_those_who_wait() {
    let mut rig = Rig::new();
    let lease = rig.lease("a");
    let reload = rig.reload("a");
    assert!(rig.stops[0].at_once && rig.waits(lease));
    rig.come_back("a");
    rig.come_ready("a");
    assert!(rig.is_granted(lease));
    assert_eq!(rig.reloaded(reload).receipt.reason, Reason::Reload);
}

#[test]
fn a_reload_goes_on_when_whoever_asked_for_it_has_left() {
    let mut rig = Rig::new();
    rig.loaded("a");
    let reload = rig.reload("a");
    rig.happen(crate::event::Event::Leave { ticket: reload });
    rig.come_back("a");
    rig.come_ready("a");
    assert_eq!(rig.state("a"), ModelState::Ready);
    assert!(rig.waits(reload));
}

#[test]
fn a_clean_up_takes_what_is_idle_and_says_why_the_rest_stays() {
    let mut rig = Rig::new();
    rig.loaded("a");
    rig.loaded("b");
    rig.lease("b");
    let idle = rig.clean_up("a", Manner::Gentle, false);
    let busy = rig.clean_up("b", Manner::Gentle, false);
    let unloaded = rig.clean_up("c", Manner::Gentle, false);
    assert_eq!(rig.told(busy), Answer::Kept("1 request in flight".to_owned()));
    assert_eq!(rig.told(unloaded), Answer::Kept("not loaded".to_owned()));
    rig.come_back("a");
    assert_eq!(rig.receipt(idle).verdict, Verdict::Returned);
    assert_eq!(rig.state("b"), ModelState::Ready);
    let forced = rig.clean_up("b", Manner::Force, false);
    assert_eq!(rig.state("b"), ModelState::Draining);
    assert!(rig.waits(forced));
}

#[test]
fn a_clean_up_never_takes_a_pinned_model_not_even_by_force() {
    let mut rig = Rig::new();
    rig.loaded("a");
    rig.pin("a", true);
    let kept = rig.clean_up("a", Manner::Force, false);
    assert_eq!(rig.told(kept), Answer::Kept("pinned".to_owned()));
    let unload = rig.unload("a", Manner::Gentle);
    rig.come_back("a");
    assert_eq!(rig.receipt(unload).verdict, Verdict::Returned, "pinned is not exempt from unload");
}

#[test]
fn a_dry_clean_up_says_the_bytes_and_changes_nothing() {
    let mut rig = Rig::new();
    rig.loaded("a");
    let before = rig.house.clone();
    let dry = rig.clean_up("a", Manner::Gentle, true);
    assert_eq!(rig.told(dry), Answer::Would(Some(33 * MIB)));
    assert_eq!(rig.house, before);
}

#[test]
fn a_clean_up_does_not_take_back_a_reload_that_is_under_way() {
    let mut rig = Rig::new();
    rig.loaded("a");
    let reload = rig.reload("a");
    let clean_up = rig.clean_up("a", Manner::Gentle, false);
    rig.come_back("a");
    assert_eq!(rig.receipt(clean_up).reason, Reason::Reload);
    rig.come_ready("a");
    assert_eq!(rig.reloaded(reload).model.state, ModelState::Ready);
}

#[test]
fn a_worker_of_which_nothing_is_heard_is_stuck_and_keeps_its_reservation() {
    let mut rig = Rig::new();
    let epoch = rig.loaded("a");
    let unload = rig.unload("a", Manner::Gentle);
    let next = rig.lease("a");
    rig.pass_ms(19_999);
    assert_eq!(rig.state("a"), ModelState::Unloading);
    rig.pass_ms(1);
    assert_eq!(rig.state("a"), ModelState::Stuck);
    let receipt = rig.receipt(unload);
    assert_eq!((receipt.verdict, receipt.ram.residual_bytes), (Verdict::Stuck, 33 * MIB));
    assert!(receipt.left[0].contains(&pid(epoch).to_string()));
    assert_eq!(rig.refusal(next).code, Code::Conflict);
    assert_eq!(rig.house.reserved(), 100 * MIB);
    let refused = rig.lease("a");
    assert!(rig.refusal(refused).message.contains(&pid(epoch).to_string()));
    let again = rig.unload("a", Manner::Gentle);
    assert_eq!(rig.receipt(again).verdict, Verdict::Stuck);
    assert!(rig.stops.last().unwrap().at_once, "perhaps it can be killed by now");
    rig.come_back("a");
    assert_eq!(rig.state("a"), ModelState::Unloaded);
    assert_eq!(rig.house.reserved(), 0);
    assert_eq!(rig.house.receipts[0].verdict, Verdict::Returned);
}

#[test]
fn what_an_unload_left_behind_is_a_warning_until_an_unload_leaves_nothing() {
    let mut rig = Rig::new();
    let epoch = rig.loaded("a");
    rig.unload("a", Manner::Gentle);
    let warnings = |rig: &Rig| {
        let shown = crate::view::snapshot(&rig.house, 1, &crate::view::Counters::new(), Vec::new(), rig.now);
        shown
            .warnings
            .iter()
            .map(|warning| (warning.code.clone(), warning.message.clone()))
            .collect::<Vec<_>>()
    };
    rig.news(epoch, Heard::Stuck { pid: 77 });
    assert_eq!(
        warnings(&rig),
        [(
            "worker_stuck".into(),
            "`a` cannot be unloaded: process 77 does not end and keeps 33.0 MiB.".into()
        )]
    );
    let left = vec!["8.0 MiB still lie in /dev/shm/x; remove that file.".to_owned()];
    let gone = Release { residual_bytes: 8 * MIB, left, ..super::rig::release(77) };
    rig.news(epoch, Heard::Released(gone));
    let told =
        "`a` left 8.0 MiB behind when it was unloaded. 8.0 MiB still lie in /dev/shm/x; remove that file.";
    assert_eq!(warnings(&rig), [("memory_residual".into(), told.into())]);
    rig.loaded("b");
    rig.unload("b", Manner::Gentle);
    rig.come_back("b");
    assert_eq!(warnings(&rig).len(), 1, "another model's unload says nothing of it");
    rig.loaded("a");
    rig.unload("a", Manner::Gentle);
    rig.come_back("a");
    assert!(warnings(&rig).is_empty());
}

#[test]
fn a_worker_that_the_launcher_calls_stuck_is_stuck_at_once() {
    let mut rig = Rig::new();
    let epoch = rig.loaded("a");
    let unload = rig.unload("a", Manner::Gentle);
    rig.news(epoch, Heard::Stuck { pid: 77 });
    assert_eq!(rig.receipt(unload).pid, Some(77));
    assert_eq!(rig.state("a"), ModelState::Stuck);
}

#[test]
fn a_stop_takes_nothing_new_ends_everything_at_once_and_waits_for_the_last_process() {
    let mut rig = Rig::new();
    rig.loaded("a");
    let streaming = rig.lease("a");
    rig.loaded("b");
    let loading = rig.lease("c");
    let stop = rig.shut_down();
    assert_eq!(rig.refusal(loading).code, Code::Draining);
    assert_eq!(rig.stops.len(), 2, "the idle one and the loading one");
    for refused in [rig.lease("a"), rig.load("b"), rig.reload("c")] {
        assert_eq!(rig.refusal(refused).code, Code::Draining);
        assert!(rig.refusal(refused).retry_after_seconds.is_some());
    }
    rig.pass_ms(2000);
    assert_eq!(rig.stopped_requests(), [streaming]);
    rig.pass_ms(1000);
    assert_eq!(rig.stops.len(), 3);
    rig.come_back("b");
    rig.come_back("c");
    assert!(rig.waits(stop));
    rig.come_back("a");
    assert_eq!(rig.told(stop), Answer::Done);
    assert!(rig.house.receipts.iter().all(|receipt| receipt.reason == Reason::Shutdown));
    let again = rig.shut_down();
    assert_eq!(rig.told(again), Answer::Done);
}

#[test]
fn a_stop_does_not_wait_for_what_cannot_be_ended() {
    let mut rig = Rig::new();
    rig.loaded("a");
    let stop = rig.shut_down();
    rig.pass_ms(3999);
    assert!(rig.waits(stop));
    rig.pass_ms(1);
    assert_eq!(rig.told(stop), Answer::Done);
    assert_eq!(rig.state("a"), ModelState::Stuck);
}

#[test]
fn a_stop_while_somebody_drains_gently_does_not_wait_half_a_minute() {
    let mut rig = Rig::new();
    rig.loaded("a");
    rig.lease("a");
    let unload = rig.unload("a", Manner::Gentle);
    let next = rig.lease("a");
    let stop = rig.shut_down();
    assert_eq!(rig.refusal(next).code, Code::Draining);
    rig.pass_ms(3000);
    rig.come_back("a");
    assert_eq!(rig.told(stop), Answer::Done);
    assert_eq!(rig.receipt(unload).reason, Reason::Asked);
}
