//! Loads that need room on a GPU beside RAM: each device has its own, and a load needs all of them.

use std::sync::Arc;

use protocol::{Code, Gpu, ModelState, Named};

use super::rig::{MIB, Rig, config, id, pid, shelf};
use crate::{
    config::GpuLimit,
    event::Event,
    ports::{GpuExpectation, GpuUse, MemorySample, ShelfModel},
};

pub(super) fn gpu(total_mib: u64, used_mib: u64) -> Gpu {
    Gpu {
        index: 0,
        name: "a test".to_owned(),
        memory_total_bytes: total_mib * MIB,
        memory_used_bytes: used_mib * MIB,
        memory_free_bytes: None,
        named: Named::Everybody,
        utilization_percent: None,
        temperature_celsius: None,
        power_watts: None,
        note: None,
    }
}

/// 100 MiB of RAM, and so much of the GPU.
fn on_gpu(name: &str, mib: u64) -> ShelfModel {
    let mut found = shelf(name, 100);
    let need = GpuExpectation { index: 0, fixed_bytes: mib * MIB, kv_bytes_per_token: 0 };
    found.expected.as_mut().unwrap().gpu = Some(need);
    found
}

/// A GPU of 1000 MiB of which models may have 900, and plenty of RAM.
fn measure(rig: &mut Rig, used_mib: u64, uses: &[(&str, u64)]) {
    rig.measure(9000, &[]);
    let gpu_uses = uses.iter().map(|(model, mib)| {
        let pid = pid(rig.epoch(model));
        GpuUse { index: 0, pid, bytes: Some(mib * MIB) }
    });
    let sample = MemorySample {
        gpus: vec![gpu(1000, used_mib)],
        gpu_uses: gpu_uses.collect(),
        ..(*rig.house.sample.clone().unwrap()).clone()
    };
    rig.happen(Event::Sampled(Arc::new(sample), vec![]));
}

fn names(rig: &mut Rig, model: &str) -> Vec<String> {
    rig.plan(model, None).evict.iter().map(|one| one.model.to_string()).collect()
}

#[test]
fn a_gpu_without_room_refuses_with_its_own_numbers_though_ram_has_plenty() {
    let pinned = ShelfModel { pinned: true, ..on_gpu("a", 600) };
    let mut rig = Rig::with(config(), vec![pinned, on_gpu("b", 400), shelf("c", 100)]);
    measure(&mut rig, 0, &[]);
    rig.loaded("a");
    let load = rig.load("b");
    let problem = rig.refusal(load);
    assert_eq!(problem.code, Code::InsufficientMemory);
    let expected = "`b` needs 400.0 MiB on GPU 0; 300.0 MiB is left of what models may use of GPU 0.";
    assert_eq!(problem.message, expected);
    assert!(problem.hint.starts_with("Unload `a`, which is pinned"), "{}", problem.hint);
    rig.load("c");
    assert_eq!(rig.state("c"), ModelState::Loading, "it needs no GPU");
    assert_eq!(rig.house.reserved_of_gpu(0), 600 * MIB);
}

#[test]
fn what_others_took_of_a_gpu_is_not_promised_again_whatever_the_limit_says() {
    let mut rig = Rig::with(config(), vec![on_gpu("a", 300), on_gpu("b", 300)]);
    measure(&mut rig, 500, &[]);
    rig.loaded("a");
    let load = rig.load("b");
    assert!(rig.waits(load), "`a` may go once it has been there for a while");
    rig.unload("b", crate::event::Manner::Gentle);
    // `a` has taken what was promised to it; another 20 MiB are for others to go on.
    measure(&mut rig, 680, &[("a", 300)]);
    let load = rig.load("b");
    assert!(rig.waits(load) && rig.state("b") == ModelState::Loading);
}

#[test]
fn only_a_model_that_holds_the_gpu_goes_for_a_load_that_lacks_it() {
    let mut rig = Rig::with(config(), vec![shelf("a", 300), on_gpu("b", 500), on_gpu("c", 500)]);
    measure(&mut rig, 0, &[]);
    rig.loaded("a");
    rig.pass_ms(60_000);
    rig.loaded("b");
    rig.pass_ms(20_000);
    assert_eq!(names(&mut rig, "c"), ["b"], "though `a` was idle for longer");
    rig.load("c");
    assert_eq!((rig.state("a"), rig.state("b")), (ModelState::Ready, ModelState::Unloading));
    rig.come_back("b");
    assert_eq!(rig.house.models[&id("c")].state.word(), ModelState::Loading);
}

#[test]
fn nothing_is_promised_of_a_gpu_that_was_not_measured_or_is_not_there() {
    let mut rig = Rig::with(config(), vec![on_gpu("a", 100)]);
    let load = rig.load("a");
    assert_eq!(rig.state("a"), ModelState::Waiting, "until the first measurement");
    rig.measure(9000, &[]);
    let problem = rig.refusal(load);
    assert_eq!(problem.message, "`a` needs GPU 0, and its driver says nothing of it.");
    measure(&mut rig, 0, &[]);
    rig.load("a");
    assert_eq!(rig.state("a"), ModelState::Loading);
}

#[test]
fn the_limit_of_a_gpu_can_be_gone_past_by_whoever_says_so_but_not_what_it_has() {
    let mut config = config();
    config.gpu_limit = GpuLimit::Share(5000);
    let mut rig = Rig::with(config, vec![on_gpu("a", 600), on_gpu("b", 990)]);
    measure(&mut rig, 0, &[]);
    assert!(rig.plan("a", None).refusal.unwrap().anyway);
    let refusal = rig.plan("b", None).refusal.unwrap();
    assert!(!refusal.anyway, "{}", refusal.message);
}
