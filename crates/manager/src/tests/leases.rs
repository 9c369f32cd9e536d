//! Leases, loads and queues.

use protocol::{Code, EventKind, IdleTimeout, ModelState, Progress};

use super::rig::{MIB, Outcome, Rig, config, id, shelf, wish};
use crate::{
    event::{Action, Event, Heard, Manner},
    ports::Epoch,
};

#[test]
fn a_request_for_a_model_that_is_not_loaded_loads_it_and_waits_for_it() {
    let mut rig = Rig::new();
    let lease = rig.lease("a");
    assert_eq!(rig.state("a"), ModelState::Loading);
    rig.pass_ms(250);
    rig.come_ready("a");
    assert_eq!(rig.granted(lease), (Epoch(1), 250, Some(250)));
    let later = rig.lease("a");
    assert_eq!(rig.granted(later), (Epoch(1), 0, None), "nobody loaded anything for the second one");
    assert_eq!(rig.shown("a").in_flight, 2);
}

#[test]
fn however_many_ask_at_once_one_load_serves_them_all_in_order() {
    let mut rig = Rig::new();
    let leases: Vec<_> = (0..5).map(|_| rig.lease("a")).collect();
    let load = rig.load("a");
    assert_eq!(rig.starts.len(), 1);
    assert_eq!(rig.shown("a").queued, 5, "a load without a request is no request");
    rig.come_ready("a");
    assert!(leases.iter().all(|lease| rig.is_granted(*lease)));
    assert_eq!(rig.told_model(load).state, ModelState::Ready);
    let mut order = Vec::new();
    for action in &rig.last {
        if let Action::Grant { ticket, .. } = action {
            order.push(*ticket);
        }
    }
    assert_eq!(order, leases);
}

#[test]
fn a_load_that_need_not_be_waited_for_is_answered_while_it_goes_on() {
    let mut rig = Rig::new();
    let ticket = rig.load_as("a", None, false);
    assert_eq!(rig.told_model(ticket).state, ModelState::Loading);
    rig.come_ready("a");
    assert_eq!(rig.state("a"), ModelState::Ready);
}

#[test]
fn a_request_that_goes_away_leaves_the_queue_and_the_load_goes_on() {
    let mut rig = Rig::new();
    let (gone, stays) = (rig.lease("a"), rig.lease("a"));
    rig.happen(Event::Leave { ticket: gone });
    rig.come_ready("a");
    assert!(rig.waits(gone), "nobody is there to be answered");
    assert!(rig.is_granted(stays));
    assert_eq!(rig.shown("a").in_flight, 1);
}

#[test]
fn an_unknown_model_is_refused_by_name() {
    let mut rig = Rig::new();
    let lease = rig.lease("nobody");
    assert_eq!(rig.refusal(lease).code, Code::UnknownModel);
    assert!(rig.refusal(lease).message.contains("`nobody`"));
}

#[test]
fn a_file_that_is_no_model_is_refused_with_exactly_its_own_reason() {
    let trouble = protocol::Problem::new(Code::UnsupportedModel, "Not this family.", "Choose another.");
    let mut broken = shelf("a", 100);
    broken.trouble = Some(trouble.clone());
    let mut rig = Rig::with(config(), vec![broken]);
    let lease = rig.lease("a");
    assert_eq!(rig.refusal(lease), trouble);
    assert_eq!(rig.state("a"), ModelState::Unloaded);
}

#[test]
fn the_queue_of_a_model_has_an_end_and_says_so() {
    let mut config = config();
    config.queue = 2;
    let mut rig = Rig::with(config, vec![shelf("a", 100)]);
    rig.lease("a");
    rig.lease("a");
    let third = rig.lease("a");
    assert_eq!(rig.refusal(third).code, Code::QueueFull);
    assert!(rig.refusal(third).retry_after_seconds.is_some());
    let load = rig.load("a");
    assert!(rig.waits(load), "a load joins all the same");
    rig.lease("a");
    assert_eq!(rig.events(EventKind::Refuse).len(), 1, "a flood is one line in the ledger");
}

#[test]
fn an_instance_serves_so_many_at_once_and_the_next_in_line_when_one_ends() {
    let mut config = config();
    config.in_flight = 2;
    let mut rig = Rig::with(config, vec![shelf("a", 100)]);
    rig.loaded("a");
    let running = [rig.lease("a"), rig.lease("a")];
    let (third, fourth) = (rig.lease("a"), rig.lease("a"));
    assert!(rig.waits(third) && rig.waits(fourth));
    rig.pass_ms(40);
    rig.back(running[0], "a");
    assert_eq!(rig.granted(third), (Epoch(1), 40, None));
    assert!(rig.waits(fourth));
    rig.happen(Event::Leave { ticket: fourth });
    rig.back(running[1], "a");
    rig.back(third, "a");
    assert!(rig.shown("a").idle_since.is_some());
}

#[test]
fn nobody_waits_for_ever() {
    let mut config = config();
    config.in_flight = 1;
    let mut rig = Rig::with(config, vec![shelf("a", 100)]);
    rig.loaded("a");
    rig.lease("a");
    let waiting = rig.lease("a");
    rig.pass_ms(599_999);
    assert!(rig.waits(waiting));
    rig.pass_ms(1);
    assert_eq!(rig.refusal(waiting).code, Code::TimedOut);
}

#[test]
fn a_lease_that_comes_back_twice_or_to_a_later_instance_changes_nothing() {
    let mut rig = Rig::new();
    rig.loaded("a");
    let old = rig.lease("a");
    rig.fail("a", "worker_died");
    rig.come_back("a");
    rig.pass_ms(1000);
    let new = rig.lease("a");
    rig.come_ready("a");
    assert_eq!(rig.shown("a").in_flight, 1);
    let before = rig.house.clone();
    rig.back(old, "a");
    rig.back(old, "a");
    assert_eq!(rig.house, before);
    rig.back(new, "a");
    assert_eq!(rig.shown("a").in_flight, 0);
}

#[test]
fn a_request_for_another_context_drains_the_model_and_waits_for_a_new_instance() {
    let mut rig = Rig::new();
    rig.loaded("a");
    let running = rig.lease("a");
    let mut other = wish("a");
    other.context = Some(4096);
    let larger = rig.lease_as(other);
    assert_eq!(rig.state("a"), ModelState::Draining);
    let newcomer = rig.lease("a");
    rig.back(running, "a");
    assert_eq!(rig.state("a"), ModelState::Unloading);
    rig.come_back("a");
    assert_eq!(rig.starts[1].context, Some(4096));
    rig.come_ready("a");
    assert!(rig.is_granted(larger) && rig.is_granted(newcomer));
}

#[test]
fn a_context_that_the_file_cannot_have_is_no_reason_to_load_it_over_and_over() {
    let mut rig = Rig::new();
    let mut large = wish("a");
    large.context = Some(1_000_000);
    rig.lease_as(large.clone());
    rig.come_ready("a");
    let again = rig.lease_as(large);
    assert!(rig.is_granted(again), "it was loaded as large as it can be");
    assert_eq!(rig.starts.len(), 1);
}

#[test]
fn a_load_without_progress_fails_and_its_worker_is_killed() {
    let mut rig = Rig::new();
    let lease = rig.lease("a");
    rig.pass_ms(50_000);
    let epoch = rig.epoch("a");
    let progress = Progress { stage: "reading weights".to_owned(), done: 1, total: 2 };
    rig.news(epoch, Heard::Progress(progress));
    rig.pass_ms(59_999);
    assert_eq!(rig.state("a"), ModelState::Loading, "it moved a minute ago");
    rig.pass_ms(1);
    assert_eq!(rig.state("a"), ModelState::Unloading);
    assert!(rig.stops[0].at_once);
    assert!(rig.refusal(lease).message.contains("no progress for 60 s (last: reading weights)"));
    rig.come_back("a");
    assert_eq!(rig.state("a"), ModelState::Failed);
}

#[test]
fn a_worker_that_repeats_itself_makes_no_progress() {
    let mut rig = Rig::new();
    let lease = rig.lease("a");
    let epoch = rig.epoch("a");
    let progress = || Heard::Progress(Progress { stage: "reading weights".to_owned(), done: 1, total: 100 });
    rig.news(epoch, progress());
    for _ in 0..59 {
        rig.pass_ms(1000);
        rig.news(epoch, progress());
    }
    assert_eq!(rig.state("a"), ModelState::Loading);
    rig.pass_ms(1000);
    assert_eq!(rig.state("a"), ModelState::Unloading);
    assert!(rig.refusal(lease).message.contains("no progress for 60 s"));
}

#[test]
fn a_load_that_gets_further_and_further_has_an_end_all_the_same() {
    let mut rig = Rig::new();
    let load = rig.load("a");
    let epoch = rig.epoch("a");
    let mut done = 0;
    while rig.state("a") == ModelState::Loading && done < 1000 {
        done += 1;
        let stage = ["starting", "reading weights"][usize::from(done % 2 == 0)].to_owned();
        rig.news(epoch, Heard::Progress(Progress { stage, done, total: 0 }));
        rig.pass_ms(50_000);
    }
    assert_eq!(done, 144, "two hours");
    assert!(rig.refusal(load).message.contains("had not come to its end after 7200 s"));
}

#[test]
fn a_load_is_written_down_with_its_time_and_its_bytes() {
    let mut rig = Rig::new();
    rig.lease("a");
    rig.pass_ms(300);
    rig.come_ready("a");
    let events = rig.events(EventKind::Load);
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].duration_ms, events[0].bytes_after), (Some(300), Some(33 * MIB)));
    assert_eq!((events[0].reason.as_str(), events[0].asked_by.as_str()), ("request", "a test"));
}

#[test]
fn a_request_that_waits_or_runs_can_be_cancelled() {
    let mut rig = Rig::new();
    let mut named = wish("a");
    named.request = "mine".to_owned();
    let waiting = rig.lease_as(named.clone());
    let other = rig.lease("a");
    let cancel = |rig: &mut Rig| {
        let ticket = rig.ticket();
        rig.happen(Event::CancelRequest { ticket, request: "mine".to_owned() });
        rig.told(ticket)
    };
    assert_eq!(cancel(&mut rig), crate::event::Answer::Found(true));
    assert_eq!(rig.refusal(waiting).code, Code::Cancelled);
    rig.come_ready("a");
    assert!(rig.is_granted(other));
    let running = rig.lease_as(named);
    assert_eq!(cancel(&mut rig), crate::event::Answer::Found(true));
    assert_eq!(rig.stopped_requests(), [running]);
    rig.back(running, "a");
    assert_eq!(cancel(&mut rig), crate::event::Answer::Found(false));
}

#[test]
fn a_model_whose_file_vanished_stays_until_it_is_unloaded_and_cannot_be_loaded_again() {
    let mut rig = Rig::new();
    rig.loaded("a");
    let ticket = rig.ticket();
    rig.happen(Event::Stock { ticket, shelf: vec![shelf("b", 100)] });
    assert_eq!(rig.house.models.len(), 2);
    let lease = rig.lease("a");
    assert!(rig.is_granted(lease));
    rig.back(lease, "a");
    rig.unload("a", Manner::Gentle);
    let late = rig.lease("a");
    rig.come_back("a");
    assert_eq!(rig.refusal(late).code, Code::UnknownModel);
    assert!(!rig.house.models.contains_key(&id("a")));
}

#[test]
fn what_a_person_wished_for_a_model_survives_its_unload_and_a_new_look_at_the_folder() {
    let mut rig = Rig::new();
    rig.pin("a", true);
    rig.idle_timeout("a", IdleTimeout::After { ms: 5000 });
    let ticket = rig.ticket();
    rig.happen(Event::Stock { ticket, shelf: vec![shelf("a", 100)] });
    rig.loaded("a");
    rig.unload("a", Manner::Gentle);
    rig.come_back("a");
    let shown = rig.shown("a");
    assert_eq!((shown.pinned, shown.idle_timeout_seconds), (true, IdleTimeout::After { ms: 5000 }));
}

#[test]
fn no_ask_is_left_without_an_outcome_when_everything_has_come_to_rest() {
    let mut rig = Rig::new();
    let mut tickets = vec![rig.lease("a"), rig.load("a"), rig.lease("b"), rig.reload("c")];
    rig.come_ready("a");
    tickets.push(rig.unload("b", Manner::Gentle));
    rig.come_back("b");
    rig.come_ready("c");
    tickets.push(rig.unload("nobody", Manner::Gentle));
    assert!(tickets.iter().all(|ticket| !rig.waits(*ticket)));
    assert!(matches!(rig.outcomes[&tickets[0]], Outcome::Granted { .. }));
}
