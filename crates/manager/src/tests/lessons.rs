//! What measurement teaches, and what a machine that is given to others refuses.

use protocol::{Code, ModelState};

use super::rig::{MIB, Rig, id, shelf};
use crate::{
    event::{Answer, Event, Heard, Manner},
    ports::{Expectation, ShelfModel},
    step,
};

fn stock(rig: &mut Rig, models: Vec<ShelfModel>) {
    let ticket = rig.ticket();
    rig.happen(Event::Stock { ticket, shelf: models });
}

/// In MiB.
fn at_rest(grown: u64, kept: u64, full: bool) -> Heard {
    Heard::AtRest { grown_bytes: grown * MIB, kept_bytes: kept * MIB, full }
}

#[test]
fn the_second_load_is_expected_to_take_what_the_first_one_took() {
    let mut rig = Rig::new();
    assert_eq!(rig.plan("a", None).prediction.error_percent, None);
    rig.loaded("a");
    let plan = rig.plan("a", None);
    assert_eq!(plan.predicted_bytes, 33 * MIB, "as measured at ready");
    let error = plan.prediction.error_percent.unwrap();
    assert!((error - 51.515).abs() < 0.01, "50 MiB were predicted: {error}");
    assert!(plan.prediction.learned_factor < 1.0);
    assert_eq!(rig.shown("a").prediction_error_percent, Some(error));
    rig.unload("a", Manner::Gentle);
    rig.come_back("a");
    rig.loaded("a");
    assert_eq!(rig.shown("a").prediction_error_percent, Some(0.0));
}

#[test]
fn a_peak_raises_the_next_reservation_and_a_filled_cache_teaches_the_scratch() {
    let mut rig = Rig::new();
    let epoch = rig.loaded("a");
    let _lease = rig.lease("a");
    rig.measure(9000, &[(epoch, 120)]);
    assert_eq!(rig.plan("a", Some(2048)).reserve_bytes, 120 * MIB, "more than the header had said");
    let mut rig = Rig::new();
    let epoch = rig.loaded("a");
    rig.news(epoch, at_rest(40 + 5, 40, false));
    assert_eq!(rig.plan("a", Some(2048)).reserve_bytes, (33 + 50 + 5) * MIB);
}

#[test]
fn what_was_measured_before_a_cache_was_given_back_teaches_nothing_of_the_scratch() {
    let mut rig = Rig::new();
    let epoch = rig.loaded("a");
    rig.news(epoch, Heard::Held { session: "s".to_owned(), bytes: MIB });
    rig.news(epoch, at_rest(5 + 1, 1, true));
    let learned = rig.plan("a", Some(2048)).reserve_bytes;
    assert_eq!(learned, (33 + 50 + 5) * MIB);
    // Nobody is served when this arrives, but somebody was when it was measured.
    rig.measure(9000, &[(epoch, 33 + 5 + 41)]);
    assert_eq!(rig.plan("a", Some(2048)).reserve_bytes, learned);
}

#[test]
fn a_peak_that_no_sampler_saw_is_learned_and_what_its_largest_step_left_is_the_scratch() {
    let files = || ShelfModel {
        expected: Some(Expectation {
            scratch_bytes: 40 * MIB,
            weights_bytes: 50 * MIB,
            context: 2048,
            longest: 2048,
            ..Expectation::default()
        }),
        ..shelf("e", 0)
    };
    let mut rig = Rig::with(super::rig::config(), vec![files()]);
    let epoch = rig.loaded("e");
    rig.news(epoch, at_rest(1, 0, false));
    assert_eq!(rig.plan("e", None).reserve_bytes, (33 + 40) * MIB, "small talk says nothing of the cap");
    rig.news(epoch, Heard::Peak { bytes: (33 + 12) * MIB });
    rig.news(epoch, at_rest(10, 0, true));
    assert_eq!(rig.plan("e", None).reserve_bytes, (33 + 12) * MIB, "though there is no cache to fill");
    let off = rig.shown("e").peak_error_percent.unwrap();
    assert!((off - (90.0 / 43.0 - 1.0) * 100.0).abs() < 1e-9, "50 and 40 MiB had been predicted: {off}");
}

#[test]
fn what_was_learned_is_kept_for_the_same_files_and_for_no_others() {
    let mut rig = Rig::new();
    rig.loaded("a");
    let learned = rig.house.lessons();
    assert_eq!(learned.keys().collect::<Vec<_>>(), ["a"]);
    stock(&mut rig, vec![shelf("a", 100)]);
    assert_eq!(rig.house.lessons(), learned, "the shelf does not know better");
    stock(&mut rig, vec![ShelfModel { files: "other".to_owned(), ..shelf("a", 100) }]);
    assert!(rig.house.lessons().is_empty());
    rig.unload("a", Manner::Gentle);
    rig.come_back("a");
    assert!(rig.house.lessons().is_empty(), "the old file's last instance teaches nothing about the new one");
    let taught = ShelfModel { lessons: learned["a"].clone(), files: "third".to_owned(), ..shelf("a", 100) };
    stock(&mut rig, vec![taught]);
    assert_eq!(rig.plan("a", Some(2048)).predicted_bytes, 33 * MIB, "as kept from an earlier run");
}

#[test]
fn while_the_memory_is_given_to_others_no_load_begins() {
    let mut rig = Rig::new();
    let yields = |rig: &mut Rig, minutes| {
        let ticket = rig.ticket();
        rig.happen(Event::Yield { ticket, minutes, by: "a person".to_owned() });
        assert_eq!(rig.told(ticket), Answer::Done);
    };
    yields(&mut rig, 2);
    let lease = rig.lease("a");
    let problem = rig.refusal(lease);
    assert_eq!((problem.code, problem.retry_after_seconds), (Code::Draining, Some(121)));
    assert_eq!(rig.plan("a", None).refusal.unwrap().message, problem.message);
    rig.pass_ms(119_999);
    let lease = rig.lease("a");
    assert_eq!(rig.refusal(lease).code, Code::Draining);
    assert!(step::next_deadline(&rig.house, rig.now).is_some(), "its end is a deadline like any other");
    rig.pass_ms(1);
    assert_eq!(rig.house.yield_until, None);
    rig.load("a");
    assert_eq!(rig.state("a"), ModelState::Loading);
    yields(&mut rig, 5);
    yields(&mut rig, 0);
    rig.load("b");
    assert_eq!(rig.house.models[&id("b")].state.word(), ModelState::Loading);
}
