//! The server does not grow: load, use, unload, again and again, and what it holds afterwards is what it held before.
//!
//! 200 cycles by default; `INNKEEPER_CYCLES=1000` is the promise in full (two minutes). The figures are printed with
//! `--nocapture`.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "real processes live in real time")]
#![allow(dead_code, unreachable_pub, missing_docs, reason = "helpers shared with other tests")]

mod common;

use std::fs;

use common::{Inn, private_bytes};
use fixtures::{Held, assert_flat};
use serde_json::json;

fn held(pid: u32) -> Held {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let threads =
        status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap().trim().parse().unwrap();
    Held {
        private: private_bytes(pid),
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
        threads,
        zombies: children(pid).into_iter().filter(|child| !common::alive(*child)).count(),
    }
}

/// The children of a process, zombies included.
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let text = threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    text.collect::<String>().split_whitespace().map(|child| child.parse().unwrap()).collect()
}

#[test]
fn a_thousand_cycles_of_load_use_and_unload_leave_the_server_as_it_was() {
    let cycles: usize = std::env::var("INNKEEPER_CYCLES").map_or(200, |cycles| cycles.parse().unwrap());
    let inn = Inn::open(&[]);
    let mut after = Vec::with_capacity(cycles);
    for cycle in 0..cycles {
        let (status, model) = inn.verb("load", &[("model", "smollm2")]);
        assert_eq!((status, model["state"].as_str()), (200, Some("ready")), "cycle {cycle}: {model:#}");
        let body =
            json!({ "model": "smollm2", "max_tokens": 1, "messages": [{ "role": "user", "content": "Hi" }] });
        let (status, answer) = inn.json("/v1/chat/completions", &body);
        assert_eq!(status, 200, "cycle {cycle}: {answer:#}");
        let (status, receipt) = inn.verb("unload", &[("model", "smollm2")]);
        assert_eq!(
            (status, receipt["verdict"].as_str()),
            (200, Some("returned")),
            "cycle {cycle}: {receipt:#}"
        );
        assert_eq!(receipt["ram"]["residual_bytes"], 0, "cycle {cycle}: the leak ledger");
        after.push(held(inn.pid()));
    }
    assert_flat(&after);
}
