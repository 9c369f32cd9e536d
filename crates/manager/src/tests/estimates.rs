//! How long a wait for room will be, as far as something measured says so.

use protocol::ModelState;

use super::rig::{Rig, config, shelf};
use crate::event::Manner;

/// Two that do not fit together, and how they were measured: requests use `a` for four seconds, and it takes 300 ms to go.
fn measured() -> Rig {
    let mut rig = fresh();
    rig.loaded("a");
    let lease = rig.lease("a");
    rig.pass_ms(4000);
    rig.back(lease, "a");
    rig.unload("a", Manner::Gentle);
    rig.pass_ms(300);
    rig.come_back("a");
    rig
}

fn fresh() -> Rig {
    Rig::with(config(), vec![shelf("a", 600), shelf("b", 700), shelf("c", 500)])
}

/// Milliseconds from now until the shown end of a model's wait.
fn shown(rig: &Rig, model: &str) -> Option<i64> {
    Some(rig.shown(model).waiting.unwrap().until?.unix_ms() - rig.now.wall_ms)
}

#[test]
fn before_anything_was_measured_a_wait_has_a_reason_and_no_end() {
    let mut rig = fresh();
    rig.loaded("a");
    rig.pass_ms(10_000);
    assert_eq!(rig.plan("b", None).wait_ms, None);
    let lease = rig.lease("a");
    assert_eq!(rig.plan("b", None).wait_ms, None);
    rig.load("b");
    assert_eq!(
        (rig.shown("b").waiting.unwrap().reason.as_str(), shown(&rig, "b")),
        ("until `a` is not in use", None)
    );
    rig.back(lease, "a");
    assert_eq!((rig.state("a"), shown(&rig, "b")), (ModelState::Unloading, None));
}

#[test]
fn a_model_that_goes_is_expected_to_take_as_long_as_the_last_time() {
    let mut rig = measured();
    rig.loaded("a");
    rig.pass_ms(10_000);
    let plan = rig.plan("b", None);
    assert_eq!((plan.wait_ms, plan.waits_for), (Some(300), None));
    rig.load("b");
    assert_eq!(shown(&rig, "b"), Some(300));
    rig.pass_ms(200);
    assert_eq!(rig.plan("c", None).wait_ms, Some(100), "behind the one that waits");
    rig.pass_ms(200);
    rig.load("b");
    assert_eq!(shown(&rig, "b"), None, "it takes longer, and nobody knows how long");
}

#[test]
fn a_model_in_use_is_expected_to_be_used_as_long_as_usual() {
    let mut rig = measured();
    rig.loaded("a");
    rig.pass_ms(20_000);
    let _lease = rig.lease("a");
    rig.pass_ms(1000);
    assert_eq!(rig.plan("b", None).wait_ms, Some(3300), "three seconds of use, and its going");
    rig.load("b");
    assert_eq!(shown(&rig, "b"), Some(3300));
    let _second = rig.lease("a");
    rig.load("b");
    assert_eq!(shown(&rig, "b"), Some(4300), "somebody else has come");
    rig.pass_ms(4500);
    rig.load("b");
    assert_eq!(shown(&rig, "b"), None, "it is used for longer than usual");
}

#[test]
fn a_model_that_came_only_now_is_waited_for_until_it_may_go_and_has_gone() {
    let mut rig = measured();
    rig.loaded("a");
    rig.pass_ms(4000);
    assert_eq!(rig.plan("b", None).wait_ms, Some(6300));
}

#[test]
fn freed_memory_is_waited_for_until_the_next_measurement() {
    let mut rig = Rig::with(config(), vec![shelf("a", 300), shelf("b", 300), shelf("c", 300)]);
    for model in ["a", "b"] {
        rig.loaded(model);
    }
    let workers = ["a", "b"].map(|model| (rig.epoch(model), 33));
    rig.measure(1024 + 534, &workers);
    rig.pass_ms(20_000);
    rig.measure(1024 + 534, &workers);
    rig.pass_ms(1000);
    rig.measure(1024 + 534, &workers);
    rig.load("c");
    rig.come_back("a");
    rig.pass_ms(400);
    rig.load("c");
    let waiting = rig.shown("c").waiting.unwrap();
    assert_eq!(waiting.reason, "until the freed memory has been measured");
    assert_eq!(shown(&rig, "c"), Some(600));
}
