//! A plan is what the load then does.

use protocol::{Code, ModelState};

use super::rig::{MIB, Rig, config, shelf};

#[test]
fn a_plan_tells_the_parts_of_a_load_and_changes_nothing() {
    let mut rig = Rig::new();
    let before = rig.house.clone();
    let plan = rig.plan("a", None);
    assert_eq!(rig.house, before);
    assert!(plan.fits && plan.refusal.is_none() && plan.evict.is_empty());
    assert_eq!((plan.predicted_bytes, plan.reserve_bytes), (50 * MIB, 100 * MIB));
    assert_eq!((plan.prediction.weights_bytes, plan.prediction.kv_cache_bytes), (50 * MIB, 50 * MIB));
    assert_eq!(plan.free_after_bytes, 900 << 20);
}

#[test]
fn a_plan_and_its_load_are_at_the_context_that_was_asked_for() {
    let mut rig = Rig::new();
    assert_eq!(rig.plan("a", Some(4096)).reserve_bytes, 150 * MIB);
    assert_eq!(rig.plan("a", Some(1 << 20)).reserve_bytes, 250 * MIB, "never beyond the model's own");
    let mut wish = super::rig::wish("a");
    wish.context = Some(4096);
    rig.lease_as(wish);
    assert_eq!(rig.house.reserved(), 150 * MIB);
}

#[test]
fn a_plan_that_is_refused_has_the_words_of_the_load_that_would_be() {
    let mut rig = Rig::with(config(), vec![shelf("a", 700), shelf("b", 1200)]);
    let plan = rig.plan("b", None);
    let load = rig.load("b");
    let problem = rig.refusal(load);
    assert_eq!(problem.code, Code::InsufficientMemory);
    let refused = plan.refusal.unwrap();
    assert_eq!((refused.code.as_str(), refused.message), ("insufficient_memory", problem.message));
    assert_eq!(refused.hint, problem.hint);
    assert!(refused.anyway, "there is no limit for whoever takes it on themselves");
    assert!(!plan.fits);
    assert_eq!(plan.free_after_bytes, -(200 << 20), "so many bytes are missing");
    assert_eq!(rig.state("b"), ModelState::Unloaded);
}

#[test]
fn going_past_the_limit_is_offered_only_where_it_helps() {
    let mut rig = Rig::with(config(), vec![shelf("a", 700), shelf("b", 1200)]);
    rig.measure(400, &[]);
    let refused = rig.plan("a", None).refusal.unwrap();
    assert_eq!(
        (refused.code.as_str(), refused.anyway),
        ("insufficient_memory", false),
        "the machine is short"
    );
    let mut rig = Rig::with(config(), vec![shelf("b", 1200)]);
    rig.measure(512 + 1199, &[]);
    assert!(!rig.plan("b", None).refusal.unwrap().anyway, "not even the reserve has the room");
}

#[test]
fn the_plan_of_a_loaded_model_is_as_if_it_were_loaded_anew() {
    let mut rig = Rig::with(config(), vec![shelf("a", 700)]);
    rig.loaded("a");
    let plan = rig.plan("a", None);
    assert!(plan.fits);
    // It took 33 MiB at ready, not the 350 that were predicted.
    assert_eq!(plan.free_after_bytes, (1000 - 33 - 350) << 20);
}
