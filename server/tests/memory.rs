//! Room, tried on the real binary with the real model twice: a load is planned, waits, pushes an idle model out, is
//! refused with numbers, and goes past the limit when a person says so.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]
#![expect(clippy::disallowed_methods, reason = "real processes live in real time")]
#![allow(
    unreachable_pub,
    dead_code,
    missing_docs,
    reason = "a test's own helpers, not all used in each file"
)]

mod common;

use std::time::{Duration, Instant};

use common::{Inn, alive};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);

/// A server whose limit is `limit`, with the model under two names.
fn two_copies(limit: &str) -> Inn {
    let inn = Inn::open_with(&[], &[("INNKEEPER_MEMORY__RAM_LIMIT", limit)]);
    add_a_copy(&inn);
    inn
}

fn add_a_copy(inn: &Inn) {
    let copy = inn.data.path().join("models/twin.gguf");
    std::os::unix::fs::symlink(common::models().join("smollm2.gguf"), copy).unwrap();
    let end = Instant::now() + SOON;
    while inn.verb("plan", &[("model", "twin")]).0 != 200 {
        assert!(Instant::now() < end, "the copy was not found");
        inn.verb("rescan", &[]);
    }
}

fn plan(inn: &Inn, model: &str) -> Value {
    let (status, plan) = inn.verb("plan", &[("model", model)]);
    assert_eq!(status, 200, "{plan:#}");
    plan
}

#[test]
fn a_load_without_room_pushes_the_idle_model_out_and_begins_when_its_memory_is_back() {
    // One takes about 295 MiB at its full context.
    let inn = two_copies("400MiB");
    assert_eq!(inn.verb("load", &[("model", "smollm2")]).0, 200);
    let pid = inn.worker_pid("smollm2");
    let planned = plan(&inn, "twin");
    assert_eq!(planned["fits"], false, "it came only now: {planned:#}");
    assert!(planned["wait_ms"].as_u64().unwrap() <= 10_000, "{planned:#}");
    let begun = Instant::now();
    let (status, model) = inn.verb("load", &[("model", "twin")]);
    assert_eq!((status, &model["state"]), (200, &json!("ready")), "{model:#}");
    assert!(begun.elapsed() < Duration::from_secs(13), "it took {:?}", begun.elapsed());
    assert!(!alive(pid), "the one that went is still there");
    let snapshot = inn.snapshot();
    let receipt = &snapshot["receipts"][0];
    assert_eq!(receipt["model"], "smollm2");
    assert_eq!((&receipt["reason"], &receipt["asked_by"]), (&json!("evicted"), &json!("room for twin")));
    assert_eq!(receipt["verdict"], "returned");
    let budget = &snapshot["budget"];
    assert!(budget["ram_reserved_bytes"].as_u64() <= budget["ram_limit_bytes"].as_u64(), "{budget:#}");
    assert_eq!(inn.get("/manage/history?kind=evict").1["events"].as_array().unwrap().len(), 1);
}

#[test]
fn what_does_not_fit_is_507_with_numbers_and_loads_anyway_when_a_person_says_so() {
    let inn = two_copies("200MiB");
    let planned = plan(&inn, "smollm2");
    assert_eq!(planned["refusal"]["code"], "insufficient_memory", "{planned:#}");
    assert!(planned["free_after_bytes"].as_i64().unwrap() < 0);
    let (status, refused) = inn.verb("load", &[("model", "smollm2")]);
    assert_eq!(status, 507, "{refused:#}");
    assert_eq!(refused["error"]["message"], planned["refusal"]["message"]);
    assert!(refused["error"]["message"].as_str().unwrap().contains("200.0 MiB is left"), "{refused:#}");
    let fits = inn.verb("plan", &[("model", "smollm2"), ("context", "2048")]).1;
    assert_eq!(fits["fits"], true, "a shorter context helps: {fits:#}");
    let (status, model) = inn.verb("load", &[("model", "smollm2"), ("anyway", "true")]);
    assert_eq!((status, &model["state"]), (200, &json!("ready")), "{model:#}");
    let events = inn.get("/manage/history?kind=load").1;
    assert_eq!(events["events"][0]["reason"], "asked, anyway");
}

#[test]
fn a_limit_that_is_set_while_the_server_runs_holds_at_once_and_is_kept() {
    let inn = Inn::open(&[]);
    assert_eq!(plan(&inn, "smollm2")["fits"], true);
    let (status, settings) = inn.verb("settings", &[("ram_limit", "200MiB")]);
    assert_eq!((status, &settings["ram_limit"]["source"]), (200, &json!("saved")), "{settings:#}");
    assert_eq!(inn.snapshot()["budget"]["ram_limit_bytes"], 200 << 20);
    assert_eq!(plan(&inn, "smollm2")["fits"], false);
    let kept = std::fs::read_to_string(inn.data.path().join("settings.toml")).unwrap();
    assert!(kept.contains("200MiB"), "{kept}");
    let locked = two_copies("300MiB");
    assert_eq!(locked.verb("settings", &[("ram_limit", "200MiB")]).0, 409, "the environment decides");
}

#[test]
fn a_prediction_is_near_before_the_first_load_and_nearer_after_it_also_over_a_restart() {
    let inn = Inn::open(&[]);
    let before = plan(&inn, "smollm2");
    assert_eq!(before["prediction"]["error_percent"], Value::Null);
    assert_eq!(inn.verb("load", &[("model", "smollm2")]).0, 200);
    let ready = common::private_bytes(inn.worker_pid("smollm2")) as f64;
    let off = |plan: &Value| (plan["predicted_bytes"].as_f64().unwrap() / ready - 1.0) * 100.0;
    println!(
        "before the first load: {:+.1} %, after it: {:+.1} %",
        off(&before),
        off(&plan(&inn, "smollm2"))
    );
    assert!((-5.0..15.0).contains(&off(&before)), "{:+.1} % off: {before:#}", off(&before));
    assert!(off(&plan(&inn, "smollm2")).abs() < 5.0);
    assert_eq!(inn.verb("unload", &[("model", "smollm2")]).0, 200);
    let kept = inn.data.path().join("prepared/lessons.json");
    let end = Instant::now() + SOON;
    while !std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("ready_bytes")) {
        assert!(Instant::now() < end, "nothing was kept");
        inn.verb("rescan", &[]);
    }
}

#[test]
fn memory_that_is_given_to_others_is_free_until_that_is_ended() {
    let inn = Inn::open(&[]);
    assert_eq!(inn.verb("load", &[("model", "smollm2")]).0, 200);
    let pid = inn.worker_pid("smollm2");
    let (status, snapshot) = inn.verb("yield", &[("minutes", "5")]);
    assert_eq!(status, 200, "{snapshot:#}");
    assert!(snapshot["yield_until"].is_string() && !alive(pid), "{snapshot:#}");
    assert_eq!(inn.verb("load", &[("model", "smollm2")]).0, 503);
    assert_eq!(inn.verb("yield", &[("minutes", "0")]).1["yield_until"], Value::Null);
    assert_eq!(inn.verb("load", &[("model", "smollm2")]).0, 200);
}

#[test]
fn a_command_keeps_its_model_in_use_and_lets_go_of_it_when_it_ends_or_is_killed() {
    let inn = Inn::open(&[]);
    let with = |script: &str| {
        std::process::Command::new(env!("CARGO_BIN_EXE_innkeeper"))
            .args(["with", "smollm2", "--server", &inn.url, "--", "sh", "-c", script])
            .spawn()
            .unwrap()
    };
    let ended = with("test -n \"$INNKEEPER_BASE_URL\" && exit 7").wait().unwrap();
    assert_eq!(ended.code(), Some(7), "the exit code is the command's");
    inn.until("smollm2", |model| model["in_flight"] == 0, SOON);
    // Ctrl-C reaches both; what the command makes of it decides, and this one goes on.
    let mut typed_at = std::process::Command::new(env!("CARGO_BIN_EXE_innkeeper"))
        .args(["with", "smollm2", "--server", &inn.url, "--", "sh", "-c", "echo ready; read -r word; exit 9"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 5];
    std::io::Read::read_exact(typed_at.stdout.as_mut().unwrap(), &mut ready).unwrap();
    inn.until("smollm2", |model| model["in_flight"] == 1, SOON);
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::QUIT] {
        rustix::process::kill_process(rustix::process::Pid::from_child(&typed_at), signal).unwrap();
    }
    drop(typed_at.stdin.take());
    assert_eq!(typed_at.wait().unwrap().code(), Some(9), "the command's own end is told");
    inn.until("smollm2", |model| model["in_flight"] == 0, SOON);
    let mut running = with("exec sleep 8");
    inn.until("smollm2", |model| model["in_flight"] == 1, SOON);
    let (_, kept) = inn.verb("cleanup", &[("what", "all")]);
    assert_eq!(kept["kept"][0]["model"], "smollm2", "it is in use: {kept:#}");
    running.kill().unwrap();
    running.wait().unwrap();
    inn.until("smollm2", |model| model["in_flight"] == 0, SOON);
}

#[test]
fn a_models_own_values_hold_at_once_are_kept_and_go_back_to_the_default() {
    let inn = Inn::open(&[]);
    let timeout = |inn: &Inn| inn.model("smollm2")["idle_timeout_seconds"].clone();
    let own = |inn: &Inn| inn.get("/manage/settings").1["models"].clone();
    assert_eq!(inn.verb("idle_timeout", &[("model", "smollm2"), ("idle_timeout", "90")]).0, 200);
    assert_eq!(inn.verb("weight", &[("model", "smollm2"), ("weight", "2.5")]).0, 200);
    assert_eq!(timeout(&inn), 90.0);
    assert_eq!(own(&inn)[0]["weight"]["value"], "2.5");
    let (status, refused) = inn.verb("weight", &[("model", "smollm2"), ("weight", "0")]);
    assert_eq!((status, &refused["error"]["field"]), (400, &json!("models.smollm2.weight")), "{refused:#}");
    let inn = inn.again();
    assert_eq!((timeout(&inn), &own(&inn)[0]["weight"]["source"]), (json!(90.0), &json!("saved")));
    // What the shelf was told at the start is not what holds now.
    let (status, model) = inn.verb("idle_timeout", &[("model", "smollm2"), ("idle_timeout", "default")]);
    assert_eq!((status, &model["idle_timeout_seconds"]), (200, &json!(900.0)), "{model:#}");
    inn.verb("rescan", &[]);
    assert_eq!(timeout(&inn), 900.0);
    assert_eq!(inn.verb("weight", &[("model", "smollm2"), ("weight", "default")]).0, 200);
    assert_eq!(own(&inn), json!([]));
    assert_eq!(inn.verb("settings", &[("reserve", "2GiB")]).1["reserve"]["value"], "2GiB");
    assert_eq!(inn.verb("settings", &[("reserve", "default")]).1["reserve"]["source"], "default");
    let kept = std::fs::read_to_string(inn.data.path().join("settings.toml")).unwrap();
    assert!(!kept.contains("smollm2") && !kept.contains("reserve"), "{kept}");
    let said: Vec<_> = inn.get("/manage/history?kind=settings").1["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["reason"].as_str().unwrap().to_owned())
        .collect();
    assert!(said.iter().any(|reason| reason == "weight 2.5"), "{said:?}");
}

#[test]
fn memory_that_a_program_of_somebody_else_takes_shows_as_others_and_as_no_models() {
    let inn = Inn::open(&[]);
    let books = || {
        let snapshot = inn.snapshot();
        let ram = snapshot["books"][0].clone();
        assert_eq!((&ram["device"], &ram["models_bytes"]), (&json!("ram"), &json!(0)), "{ram:#}");
        ram["other_bytes"].as_i64().unwrap()
    };
    let soon = |there: &dyn Fn(i64) -> bool| {
        let end = Instant::now() + Duration::from_secs(5);
        let mut is_so = there(books());
        while !is_so && Instant::now() < end {
            std::thread::park_timeout(Duration::from_millis(100));
            is_so = there(books());
        }
        is_so
    };
    // Large beside what other programs of this machine take and give back meanwhile, but another test may do the same.
    let taken = 1_i64 << 30;
    let grows_and_falls = || {
        let before = books();
        let memory = vec![1_u8; taken as usize];
        let grew = soon(&|other| other > before + taken * 3 / 4);
        let held = books();
        drop(std::hint::black_box(memory));
        grew && soon(&|other| other < held - taken / 2)
    };
    assert!((0..5).any(|_| grows_and_falls()), "others have {}", books());
}

#[test]
fn when_the_machine_runs_short_the_idle_model_goes_and_loads_are_refused_and_not_offered_anyway() {
    let inn = two_copies("4GiB");
    assert_eq!(inn.verb("load", &[("model", "smollm2")]).0, 200);
    let pid = inn.worker_pid("smollm2");
    // It may stay for ten seconds; then the machine is short because so much of it is to be left to others.
    inn.until("smollm2", |model| loaded_for(model) > Duration::from_secs(10), SOON);
    let available = inn.snapshot()["host"]["memory_available_bytes"].as_u64().unwrap();
    let reserve = format!("{}MiB", (available * 3) >> 20);
    assert_eq!(inn.verb("settings", &[("reserve", &reserve)]).0, 200);
    inn.until("smollm2", |model| model["state"] == "unloaded", SOON);
    assert!(!alive(pid));
    let receipt = &inn.snapshot()["receipts"][0];
    assert_eq!((&receipt["reason"], &receipt["asked_by"]), (&json!("evicted"), &json!("memory pressure")));
    assert_eq!(receipt["verdict"], "returned");
    // The words have what is free in them, which is measured each second: both are compared that fall into one.
    let end = Instant::now() + SOON;
    loop {
        let planned = plan(&inn, "twin");
        let refusal = &planned["refusal"];
        assert_eq!((&refusal["code"], &refusal["anyway"]), (&json!("insufficient_memory"), &json!(false)));
        let (status, refused) = inn.verb("load", &[("model", "twin"), ("anyway", "true")]);
        assert_eq!(status, 507, "{refused:#}");
        if plan(&inn, "twin")["refusal"] == *refusal {
            assert_eq!(refused["error"]["message"], refusal["message"]);
            break;
        }
        assert!(Instant::now() < end, "the plan was never twice the same: {refusal}");
    }
}

fn loaded_for(model: &Value) -> Duration {
    let at = model["instances"][0]["loaded_at"].as_str().unwrap_or_default();
    let since = at.parse::<protocol::Time>().map_or(0, protocol::Time::unix_ms);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_millis(u64::try_from(since).unwrap_or(0)))
}
