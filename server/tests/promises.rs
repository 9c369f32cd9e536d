//! The promises, tried on the real binary with the real model: the memory comes back and is proved, and nothing
//! outlives the server.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]
#![expect(clippy::disallowed_methods, reason = "real processes live in real time")]
#![allow(unreachable_pub, dead_code, missing_docs, reason = "helpers shared with other tests")]

mod common;

use std::{
    io::Read,
    sync::Barrier,
    time::{Duration, Instant},
};

use common::{Inn, alive, children, gone, is_worker, private_bytes, signal_to};
use rustix::process::Signal;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);

fn is(state: &'static str) -> impl Fn(&Value) -> bool {
    move |model| model["state"] == state
}

#[test]
fn a_receipt_agrees_with_an_outside_look_and_the_process_is_gone() {
    let inn = Inn::open(&[]);
    let (status, model) = inn.verb("load", &[("model", "smollm2")]);
    assert_eq!((status, &model["state"]), (200, &json!("ready")), "{model:#}");
    let pid = inn.worker_pid("smollm2");
    let seen = private_bytes(pid);
    let (status, receipt) = inn.verb("unload", &[("model", "smollm2")]);
    assert_eq!((status, &receipt["verdict"]), (200, &json!("returned")), "{receipt:#}");
    let held = receipt["ram"]["held_bytes"].as_u64().unwrap();
    assert!(held.abs_diff(seen) <= (seen / 50).max(4 << 20), "the receipt says {held}, /proc said {seen}");
    assert!(receipt["ram"]["returned_bytes"].as_u64().unwrap() >= held / 100 * 95);
    assert!(!alive(pid), "the worker is still there");
    assert_eq!(inn.verb("unload", &[("model", "smollm2")]).1["verdict"], "not_loaded");
}

#[test]
fn two_loads_at_once_make_one_worker() {
    let inn = Inn::open(&[]);
    let start = Barrier::new(4);
    let pids: Vec<u64> = std::thread::scope(|scope| {
        let one = || {
            start.wait();
            let (status, model) = inn.verb("load", &[("model", "smollm2")]);
            assert_eq!(status, 200, "{model:#}");
            model["instances"][0]["pid"].as_u64().unwrap()
        };
        let all: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
}

#[test]
fn an_idle_model_goes_within_a_second_of_its_deadline() {
    let inn = Inn::open(&[]);
    let stayed = || {
        inn.verb("load", &[("model", "smollm2"), ("idle_timeout", "1500ms")]);
        let loaded = Instant::now();
        // Reads never reset the timer.
        inn.until("smollm2", is("unloaded"), SOON);
        let stayed = loaded.elapsed();
        assert!(stayed >= Duration::from_millis(1200), "it went too early: {stayed:?}");
        assert_eq!(inn.snapshot()["receipts"][0]["reason"], "idle");
        stayed
    };
    // A full machine may be late, once.
    let times: Vec<_> = (0..3).map(|_| stayed()).collect();
    let in_time = times.iter().filter(|stayed| **stayed < Duration::from_millis(2800)).count();
    assert!(in_time >= 2, "{times:?}");
}

#[test]
fn kill_9_of_the_server_leaves_no_worker() {
    let mut inn = Inn::open(&[]);
    inn.verb("load", &[("model", "smollm2")]);
    let pid = inn.worker_pid("smollm2");
    inn.signal(Signal::KILL);
    inn.ended(SOON);
    gone(&[pid], Duration::from_secs(1));
}

#[test]
fn kill_9_while_it_loads_leaves_no_worker() {
    let mut inn = Inn::open(&[]);
    inn.verb("load", &[("model", "smollm2"), ("wait", "false")]);
    let model = inn.until("smollm2", |model| model["instances"][0]["pid"].is_u64(), SOON);
    let pid = u32::try_from(model["instances"][0]["pid"].as_u64().unwrap()).unwrap();
    inn.signal(Signal::KILL);
    inn.ended(SOON);
    gone(&[pid], Duration::from_secs(1));
}

#[test]
fn a_stop_drains_and_leaves_nothing_within_eight_seconds() {
    let mut inn = Inn::open(&[]);
    inn.verb("load", &[("model", "smollm2")]);
    let pid = inn.worker_pid("smollm2");
    let mut stream = inn.stream("/v1/chat/completions", &long_chat());
    let mut first = [0; 1];
    stream.read_exact(&mut first).unwrap();
    let told = Instant::now();
    inn.signal(Signal::TERM);
    assert!(inn.ended(Duration::from_secs(8)).success());
    assert!(!alive(pid), "the worker outlived the stop, {:?} after the signal", told.elapsed());
}

#[test]
fn a_second_signal_ends_everything_within_a_second() {
    let mut inn = Inn::open(&[]);
    inn.verb("load", &[("model", "smollm2")]);
    let pid = inn.worker_pid("smollm2");
    let mut stream = inn.stream("/v1/chat/completions", &long_chat());
    stream.read_exact(&mut [0; 1]).unwrap();
    inn.signal(Signal::TERM);
    let (status, _) = wait_until_draining(&inn);
    assert_eq!(status, 503);
    inn.signal(Signal::TERM);
    inn.ended(Duration::from_secs(1));
    gone(&[pid], Duration::from_secs(1));
}

fn wait_until_draining(inn: &Inn) -> (u16, Value) {
    let end = Instant::now() + Duration::from_secs(2);
    loop {
        let answer = inn.get("/readyz");
        if answer.0 == 503 || Instant::now() > end {
            return answer;
        }
    }
}

#[test]
fn a_killed_worker_ends_its_answer_with_a_sentence_and_takes_nobody_along() {
    let inn = Inn::open(&[]);
    inn.verb("load", &[("model", "smollm2")]);
    let pid = inn.worker_pid("smollm2");
    let mut stream = inn.stream("/v1/chat/completions", &long_chat());
    stream.read_exact(&mut [0; 64]).unwrap();
    common::signal_to(pid, Signal::KILL);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    let error = rest.lines().filter_map(|line| line.strip_prefix("data: ")).next_back().unwrap();
    let error: Value = serde_json::from_str(error).unwrap();
    assert_eq!(error["error"]["code"], "worker_died", "{error:#}");
    // The next request loads it again, after the back-off.
    let (status, answer) = inn.json("/v1/chat/completions", &short_chat());
    assert_eq!(status, 200, "{answer:#}");
    assert_ne!(inn.worker_pid("smollm2"), pid);
}

#[test]
fn unloading_while_it_loads_tells_those_who_wait() {
    let inn = Inn::open(&[]);
    let (loaded, unloaded) = std::thread::scope(|scope| {
        let load = scope.spawn(|| inn.verb("load", &[("model", "smollm2")]));
        inn.until("smollm2", |model| model["state"] != "unloaded", SOON);
        let unloaded = inn.verb("unload", &[("model", "smollm2")]);
        (load.join().unwrap(), unloaded)
    });
    // The load may have been quicker; then it was a load and an unload.
    if loaded.0 != 200 {
        assert_eq!((loaded.0, &loaded.1["error"]["code"]), (503, &json!("load_cancelled")), "{loaded:?}");
    }
    assert_eq!(unloaded.0, 200, "{unloaded:?}");
    inn.until("smollm2", is("unloaded"), SOON);
}

#[test]
fn reinitialising_gives_a_receipt_and_a_new_worker() {
    let inn = Inn::open(&[]);
    inn.verb("load", &[("model", "smollm2")]);
    let before = inn.worker_pid("smollm2");
    let (status, reloaded) = inn.verb("reload", &[("model", "smollm2")]);
    assert_eq!((status, &reloaded["receipt"]["reason"]), (200, &json!("reload")), "{reloaded:#}");
    assert_eq!(reloaded["model"]["state"], "ready");
    assert_ne!(inn.worker_pid("smollm2"), before);
}

#[test]
fn greedy_answers_are_the_same_each_time_and_count_what_they_say() {
    let inn = Inn::open(&[]);
    let (status, first) = inn.json("/v1/chat/completions", &short_chat());
    assert_eq!(status, 200, "{first:#}");
    let again = inn.json("/v1/chat/completions", &short_chat()).1;
    assert_eq!(first["choices"][0]["message"], again["choices"][0]["message"]);
    assert!(first["timings"]["load_ms"].is_u64(), "{first:#}");
    assert!(again["timings"]["load_ms"].is_null(), "{again:#}");
    assert_eq!(first["usage"]["completion_tokens"].as_u64().unwrap(), 12);
}

fn long_chat() -> Value {
    json!({ "model": "smollm2", "stream": true, "temperature": 0, "max_tokens": 2000, "ignore_eos": true,
        "messages": [{ "role": "user", "content": "Tell me a very long story." }] })
}

fn short_chat() -> Value {
    json!({ "model": "smollm2", "temperature": 0, "max_tokens": 12, "ignore_eos": true,
        "messages": [{ "role": "user", "content": "Count to twenty." }] })
}

#[test]
fn a_second_server_on_the_same_folder_and_port_says_who_has_the_folder() {
    let first = Inn::open(&[]);
    let address = first.url.strip_prefix("http://").unwrap();
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_innkeeper"))
        .args(["serve", "--listen", address, "--data-dir"])
        .arg(first.data.path())
        .env("XDG_CONFIG_HOME", first.data.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("another Innkeeper (process {})", first.pid())), "{said}");
    assert_eq!(first.get("/healthz").0, 200, "the first goes on");
}

#[test]
fn a_file_that_was_put_there_this_moment_can_be_planned_loaded_and_reinitialised_at_once() {
    let inn = Inn::open(&[]);
    for (verb, name) in [("plan", "planned"), ("load", "loaded"), ("reload", "again")] {
        let file = inn.data.path().join(format!("models/{name}.gguf"));
        std::os::unix::fs::symlink(common::models().join("smollm2.gguf"), file).unwrap();
        let (status, answer) = inn.verb(verb, &[("model", name)]);
        assert_eq!(status, 200, "{verb}: {answer:#}");
        let (status, answer) = inn.verb(verb, &[("model", "nobody")]);
        assert_eq!((status, &answer["error"]["code"]), (404, &json!("unknown_model")), "{verb}: {answer:#}");
    }
}

/// Has the server look into a new file and holds the worker that does until the server ends it; does something meanwhile.
fn with_a_look_held_up<T>(inn: &Inn, model: &str, meanwhile: impl Fn() -> T + Sync) -> T
where
    T: Send,
{
    let (fresh, path) = (inn.data.path().join(model), inn.data.path().join(format!("models/{model}.gguf")));
    std::fs::copy(common::models().join("smollm2.gguf"), &fresh).unwrap();
    std::fs::rename(fresh, &path).unwrap();
    // With each time of its last write it is another file, and is looked into.
    for n in 1..20 {
        let written = std::time::UNIX_EPOCH + Duration::from_secs(n);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
        let end = Instant::now() + SOON;
        let worker = loop {
            if let Some(worker) = children(inn.pid()).into_iter().find(|child| is_worker(*child)) {
                break worker;
            }
            assert!(Instant::now() < end, "nobody looked into the file");
        };
        signal_to(worker, Signal::STOP);
        let held = Instant::now();
        let told = std::thread::scope(|scope| {
            let told = scope.spawn(&meanwhile);
            gone(&[worker], SOON);
            let held = held.elapsed();
            (held, told.join().unwrap())
        });
        // Else it had given its answer before it was held.
        if told.0 > Duration::from_secs(3) {
            return told.1;
        }
    }
    panic!("none was held before its answer");
}

#[test]
fn a_look_into_a_file_that_was_held_up_is_no_verdict_and_is_repeated_when_somebody_asks() {
    let inn = Inn::open(&[]);
    with_a_look_held_up(&inn, "late", || ());
    let (status, model) = inn.verb("load", &[("model", "late")]);
    assert_eq!((status, &model["state"]), (200, &json!("ready")), "{model:#}");
}

#[test]
fn who_asks_while_a_look_is_held_up_is_answered_by_the_one_after_it() {
    let inn = Inn::open(&[]);
    let (status, model) = with_a_look_held_up(&inn, "late", || inn.verb("load", &[("model", "late")]));
    assert_eq!((status, &model["state"]), (200, &json!("ready")), "{model:#}");
}
