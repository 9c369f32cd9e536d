//! Idle timers: when they run, what resets them, what does not.

use std::sync::Arc;

use protocol::{EventKind, Host, IdleTimeout, ModelState, Reason};

use super::rig::{Rig, config, measured, pid, shelf, wish};
use crate::{
    desk::Defaults,
    event::{Event, Manner},
    ports::{MemorySample, RamTotals},
    step,
};

const fn after(ms: u64) -> IdleTimeout {
    IdleTimeout::After { ms }
}

#[test]
fn an_idle_model_goes_at_its_deadline_and_not_before() {
    let mut rig = Rig::new();
    rig.loaded("a");
    assert_eq!(rig.goes_in_s("a"), Some(900));
    rig.pass_ms(899_999);
    assert_eq!(rig.state("a"), ModelState::Ready);
    rig.pass_ms(1);
    assert_eq!(rig.state("a"), ModelState::Unloading);
    rig.come_back("a");
    let receipt = &rig.house.receipts[0];
    assert_eq!((receipt.reason, receipt.asked_by.as_str()), (Reason::Idle, "idle timer"));
}

#[test]
fn a_model_in_use_never_goes_by_a_timer_and_its_time_counts_from_the_end_of_the_use() {
    let mut rig = Rig::new();
    rig.loaded("a");
    let lease = rig.lease("a");
    assert_eq!((rig.goes_in_s("a"), rig.shown("a").idle_since), (None, None));
    rig.pass_ms(10_000_000);
    assert_eq!(rig.state("a"), ModelState::Ready);
    rig.back(lease, "a");
    rig.pass_ms(899_999);
    assert_eq!(rig.state("a"), ModelState::Ready);
    rig.pass_ms(1);
    assert_eq!(rig.state("a"), ModelState::Unloading);
}

#[test]
fn the_page_says_what_reset_the_timer() {
    let mut rig = Rig::new();
    rig.loaded("a");
    assert_eq!(rig.shown("a").last_reset_by.as_deref(), Some("load by a person"));
    let lease = rig.lease("a");
    rig.back(lease, "a");
    assert_eq!(rig.shown("a").last_reset_by.as_deref(), Some("request by a test"));
}

#[test]
fn asking_for_a_loaded_model_to_be_loaded_is_a_use() {
    let mut rig = Rig::new();
    rig.loaded("a");
    rig.pass_ms(600_000);
    let load = rig.load("a");
    assert_eq!(rig.told_model(load).state, ModelState::Ready);
    assert_eq!(rig.goes_in_s("a"), Some(900));
    assert_eq!(rig.starts.len(), 1);
}

#[test]
fn with_a_timeout_of_zero_a_model_goes_when_its_last_lease_ends() {
    let mut rig = Rig::new();
    rig.idle_timeout("a", after(0));
    let leases = [rig.lease("a"), rig.lease("a")];
    rig.come_ready("a");
    rig.back(leases[0], "a");
    assert_eq!(rig.state("a"), ModelState::Ready);
    rig.back(leases[1], "a");
    assert_eq!(rig.state("a"), ModelState::Unloading);
}

#[test]
fn with_a_timeout_of_zero_a_model_that_was_loaded_ahead_waits_a_minute_for_its_first_use() {
    let mut rig = Rig::new();
    rig.load_as("a", Some(after(0)), true);
    rig.come_ready("a");
    rig.pass_ms(59_999);
    assert_eq!(rig.state("a"), ModelState::Ready);
    rig.pass_ms(1);
    assert_eq!(rig.state("a"), ModelState::Unloading);
}

#[test]
fn never_means_never() {
    let mut rig = Rig::new();
    rig.idle_timeout("a", IdleTimeout::Never);
    rig.loaded("a");
    assert_eq!(rig.goes_in_s("a"), None);
    rig.pass_ms(1_000_000_000_000);
    assert_eq!(rig.state("a"), ModelState::Ready);
}

#[test]
fn a_pinned_model_does_not_go_by_itself_and_goes_when_it_is_pinned_no_longer() {
    let mut rig = Rig::new();
    rig.loaded("a");
    rig.pin("a", true);
    rig.pass_ms(3_600_000);
    assert_eq!((rig.state("a"), rig.goes_in_s("a")), (ModelState::Ready, None));
    rig.pin("a", false);
    assert_eq!(rig.state("a"), ModelState::Unloading);
}

#[test]
fn what_a_request_says_about_the_timeout_rules_this_instance_until_it_goes() {
    let mut rig = Rig::new();
    let mut short = wish("a");
    short.idle_timeout = Some(after(5000));
    let lease = rig.lease_as(short);
    rig.come_ready("a");
    rig.back(lease, "a");
    let later = rig.lease("a");
    rig.back(later, "a");
    assert_eq!(rig.goes_in_s("a"), Some(5), "a request that says nothing changes nothing");
    rig.pass_ms(5000);
    rig.come_back("a");
    rig.loaded("a");
    assert_eq!(rig.goes_in_s("a"), Some(900));
}

#[test]
fn the_newest_word_about_a_timeout_counts() {
    let mut rig = Rig::new();
    rig.load_as("a", Some(after(5000)), true);
    rig.come_ready("a");
    rig.idle_timeout("a", after(60_000));
    assert_eq!(rig.goes_in_s("a"), Some(60));
    let load = rig.load_as("a", Some(IdleTimeout::Never), true);
    assert_eq!(rig.told_model(load).unload_at, None);
}

#[test]
fn a_model_of_its_own_configuration_is_ruled_by_it_and_the_others_by_the_default() {
    let mut own = super::rig::shelf("a", 100);
    own.idle_timeout = Some(after(7000));
    let mut rig = Rig::with(super::rig::config(), vec![own, super::rig::shelf("b", 100)]);
    rig.loaded("a");
    rig.loaded("b");
    assert_eq!((rig.goes_in_s("a"), rig.goes_in_s("b")), (Some(7), Some(900)));
    let ticket = rig.ticket();
    let defaults = Defaults { idle_timeout: Some(after(30_000)), ..Defaults::default() };
    rig.happen(Event::Defaults { ticket, defaults });
    assert_eq!((rig.goes_in_s("a"), rig.goes_in_s("b")), (Some(7), Some(30)));
}

#[test]
fn a_machine_that_slept_has_been_idle_but_nothing_hung_meanwhile() {
    let mut rig = Rig::new();
    rig.loaded("a");
    let loading = rig.load("b");
    rig.loaded("c");
    rig.lease("c");
    rig.unload("c", Manner::Gentle);
    rig.sleep_ms(900_000);
    assert_eq!(rig.state("a"), ModelState::Unloading, "nobody used it for a quarter of an hour");
    assert_eq!(rig.state("b"), ModelState::Loading, "it had no time to make progress");
    assert!(rig.waits(loading));
    assert_eq!(rig.state("c"), ModelState::Draining);
    assert!(rig.stopped_requests().is_empty(), "the grace is time in which a request can work");
}

#[test]
fn a_clock_on_the_wall_that_jumps_moves_no_deadline() {
    let mut rig = Rig::new();
    rig.loaded("a");
    rig.now.wall_ms += 10 * 365 * 86_400_000;
    rig.happen(Event::Timer);
    assert_eq!(rig.state("a"), ModelState::Ready);
    rig.now.wall_ms -= 20 * 365 * 86_400_000;
    rig.pass_ms(899_999);
    assert_eq!(rig.state("a"), ModelState::Ready);
    rig.pass_ms(1);
    assert_eq!(rig.state("a"), ModelState::Unloading);
}

#[test]
fn the_timer_is_set_to_the_next_deadline_of_all_models() {
    let mut rig = Rig::new();
    assert_eq!(step::next_deadline(&rig.house, rig.now), None);
    rig.loaded("a");
    rig.pass_ms(1000);
    rig.idle_timeout("b", after(20_000));
    rig.loaded("b");
    let due = step::next_deadline(&rig.house, rig.now).unwrap() - rig.now.boot;
    assert_eq!(due.as_millis(), 20_000);
    rig.lease("b");
    let due = step::next_deadline(&rig.house, rig.now).unwrap() - rig.now.boot;
    assert_eq!(due.as_millis(), 899_000);
}

#[test]
fn a_measurement_changes_the_numbers_and_no_timer() {
    let mut rig = Rig::new();
    let epoch = rig.loaded("a");
    let before = rig.full_state("a").clone();
    let due = step::next_deadline(&rig.house, rig.now);
    let host = Host {
        memory_total_bytes: 1,
        memory_available_bytes: 1,
        swap_used_bytes: 0,
        cpu_count: 1,
        cpu_percent: 0.0,
        pressure: None,
    };
    let sample = MemorySample {
        wall_ms: 0,
        begun: std::time::Duration::ZERO,
        host,
        ram: RamTotals::default(),
        server: None,
        workers: vec![(pid(epoch), measured(44)), (1, measured(99))],
        spare: None,
        gpus: vec![],
        gpu_absent: None,
        gpu_uses: vec![],
    };
    rig.happen(Event::Sampled(Arc::new(sample), vec![(epoch, 12.5)]));
    let shown = rig.shown("a");
    let memory = shown.instances[0].memory.as_ref().unwrap();
    assert_eq!(memory.private_bytes, 44 * super::rig::MIB);
    assert_eq!(shown.instances[0].tokens_per_second, Some(12.5));
    assert_eq!(step::next_deadline(&rig.house, rig.now), due);
    assert_ne!(rig.full_state("a"), &before);
    rig.pass_ms(900_000);
    assert_eq!(rig.state("a"), ModelState::Unloading);
}

#[test]
fn a_model_can_go_back_to_the_usual_idle_timeout_whatever_was_configured_at_the_start() {
    let configured = crate::ports::ShelfModel { idle_timeout: Some(after(7000)), ..shelf("a", 100) };
    let mut rig = Rig::with(config(), vec![configured]);
    rig.loaded("a");
    assert_eq!(rig.shown("a").idle_timeout_seconds, after(7000));
    rig.idle_timeout("a", after(5000));
    assert_eq!(rig.shown("a").idle_timeout_seconds, after(5000));
    rig.idle_timeout("a", None);
    assert_eq!(rig.shown("a").idle_timeout_seconds, after(900_000));
    assert_eq!(rig.events(EventKind::Settings).last().unwrap().reason, "idle timeout as usual");
    rig.pass_ms(899_999);
    assert_eq!(rig.state("a"), ModelState::Ready);
    rig.pass_ms(1);
    assert_eq!(rig.state("a"), ModelState::Unloading);
}
