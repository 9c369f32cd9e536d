//! What a step leaves behind does not depend on the steps before it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod support;

use support::{greedy, load, request, run, smollm2};
use worker::port::Engine;

/// Of this process.
fn private_bytes() -> u64 {
    let smaps = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = smaps.lines().find(|line| line.starts_with("Pss_Anon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn steps_that_grow_leave_no_more_behind_than_the_largest_alone() {
    let (mut model, ready) = load(smollm2(), Some(512), 2);
    let print = ready.facts.footprint;
    let at_ready = private_bytes();
    // Each reads a larger piece at once than all before it; the last one fills the cache, in the largest step that there is.
    for (id, words) in (0..).zip([3, 8, 20, 45, 90, 140, 190, 230, 472]) {
        model.admit(request(id, &format!("session {id}"), &" the".repeat(words), greedy(1))).unwrap();
        run(&mut model, &[id]);
    }
    let cache = print.kv_bytes_per_token * 512;
    let scratch = private_bytes() - at_ready - cache;
    println!("{scratch} bytes of scratch, of {} at most", print.scratch_bytes);
    // At most there are eight rows more, and the logits of eight answers instead of one.
    let alone = print.scratch_bytes - 7 * 4 * u64::from(ready.facts.vocabulary);
    assert!((alone * 4 / 5..alone).contains(&scratch), "{scratch} bytes instead of about {alone}");
}
