//! Predictions against what the kernel counts, for both models of the catalogue at two contexts each: before any load, and
//! after one. What is predicted is the most private memory that an instance can take (its reservation without the mapped
//! weights); what is measured is the most that one took while its cache was filled. `--nocapture` prints the figures.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]
#![expect(clippy::disallowed_methods, reason = "real processes live in real time")]
#![expect(clippy::print_stdout, reason = "the figures")]
#![allow(
    unreachable_pub,
    dead_code,
    missing_docs,
    reason = "a test's own helpers, not all used in each file"
)]

mod common;

use std::{
    fs,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use common::Inn;
use serde_json::{Value, json};

/// Private bytes of a process by the kernel's cheap counters.
fn held(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or("x 0 kB");
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    field("RssAnon:") + field("RssShmem:") + field("VmSwap:")
}

/// The most that a process held while `work` was done.
fn peak(pid: u32, work: impl FnOnce()) -> u64 {
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    let (most, over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                most.fetch_max(held(pid), Ordering::AcqRel);
                std::thread::park_timeout(Duration::from_millis(1));
            }
        });
        // Also where the work panics: the scope waits for its thread.
        let _over = Over(&over);
        work();
    });
    most.into_inner().max(held(pid))
}

/// What a plan says: private at ready, and at most.
fn planned(inn: &Inn, model: &str, context: u32) -> (u64, u64) {
    let (status, plan) = inn.verb("plan", &[("model", model), ("context", &context.to_string())]);
    assert_eq!(status, 200, "{plan:#}");
    let bytes = |name: &str| plan[name].as_u64().unwrap();
    (bytes("predicted_bytes"), bytes("reserve_bytes") - bytes("mapped_bytes"))
}

fn load(inn: &Inn, model: &str, context: u32) -> u32 {
    let (status, loaded) = inn.verb("load", &[("model", model), ("context", &context.to_string())]);
    assert_eq!((status, &loaded["state"]), (200, &json!("ready")), "{loaded:#}");
    inn.worker_pid(model)
}

/// A prompt of about so many tokens: one for each word.
fn words(tokens: u32) -> String {
    " the".repeat(tokens as usize)
}

/// As many answers at once as the server lets one instance make, then the cache of one conversation is filled, a part at a
/// time: what is there already is not read again.
fn fill_chat(inn: &Inn, context: u32) {
    let ask = |prompt: String, max_tokens: u32, user: &str| {
        let body = json!({
            "model": "smollm2", "prompt": prompt, "max_tokens": max_tokens, "ignore_eos": true, "user": user,
        });
        let (status, answer) = inn.json("/v1/completions", &body);
        assert_eq!(status, 200, "{answer:#}");
        answer["usage"]["total_tokens"].as_u64().unwrap()
    };
    std::thread::scope(|scope| {
        for user in 0..8 {
            // The first reads a whole chunk while the others answer.
            let tokens = if user == 0 { 300 } else { 8 };
            scope.spawn(move || ask(words(tokens), 32, &format!("beside {user}")));
        }
    });
    let mut used = 0;
    for tokens in (512..context).step_by(512).chain([context - 40]) {
        used = ask(words(tokens), 32, "one");
    }
    assert!(used + 64 >= u64::from(context), "{used} of {context} positions were filled");
}

/// Two contexts of the chat model; larger ones where `INNKEEPER_CONTEXTS` says `4096,8192` (some minutes).
fn contexts() -> [u32; 2] {
    let text = std::env::var("INNKEEPER_CONTEXTS").unwrap_or_else(|_| "512,1024".to_owned());
    let (short, long) = text.split_once(',').expect("two contexts with a comma between them");
    [short.parse().unwrap(), long.parse().unwrap()]
}

/// Several times, since the most is held for a moment only.
fn fill_embeddings(inn: &Inn) {
    for _ in 0..3 {
        let texts = vec![words(600); 16];
        let (status, answer) = inn.json("/v1/embeddings", &json!({ "model": "minilm", "input": texts }));
        assert_eq!(status, 200, "{}", answer["error"]);
    }
}

/// Percent by which a prediction misses.
fn off(predicted: u64, measured: u64) -> f64 {
    (predicted as f64 / measured as f64 - 1.0) * 100.0
}

/// One model at one context: cold, and after a load.
fn tried(inn: &Inn, model: &str, context: u32, fill: impl Fn(&Inn)) {
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    let mut most_ever = 0;
    for (when, most, least) in [("before any load", 15.0, -5.0), ("after one load", 5.0, -5.0)] {
        let (at_ready, at_most) = planned(inn, model, context);
        let pid = load(inn, model, context);
        let ready = common::private_bytes(pid);
        // What an embedding takes for a moment is not always caught; the most that was ever seen is nearest to the truth.
        most_ever = peak(pid, || fill(inn)).max(most_ever);
        let peak = most_ever;
        assert_eq!(inn.verb("unload", &[("model", model)]).0, 200);
        println!(
            "| {model} | {context} | {when} | {:.1} | {:.1} | {:+.1} % | {:.1} | {:.1} | {:+.1} % |",
            mib(at_ready),
            mib(ready),
            off(at_ready, ready),
            mib(at_most),
            mib(peak),
            off(at_most, peak),
        );
        for off in [off(at_ready, ready), off(at_most, peak)] {
            assert!((least..=most).contains(&off), "{model} at {context}, {when}: {off:+.1} % off");
        }
    }
}

#[test]
fn what_a_model_takes_is_predicted_within_fifteen_percent_before_its_first_load_and_within_five_after_it() {
    println!(
        "| model | context | when | at ready: predicted MiB | measured | off | at most: predicted MiB | measured | off |"
    );
    // Each in a house of its own: what is learned at one context helps at the other.
    for context in contexts() {
        let inn = Inn::open(&[]);
        tried(&inn, "smollm2", context, |inn| fill_chat(inn, context));
    }
    for context in [256, 512] {
        let inn = Inn::open(&[]);
        let (from, to) = (common::models().join("minilm"), inn.data.path().join("models/minilm"));
        fs::create_dir(&to).unwrap();
        for file in ["model.safetensors", "config.json", "tokenizer.json"] {
            std::os::unix::fs::symlink(from.join(file), to.join(file)).unwrap();
        }
        inn.verb("rescan", &[]);
        tried(&inn, "minilm", context, fill_embeddings);
    }
}

#[test]
fn what_was_learned_at_one_context_holds_at_another() {
    let inn = Inn::open(&[]);
    let [short, long] = contexts();
    let pid = load(&inn, "smollm2", short);
    peak(pid, || fill_chat(&inn, short));
    assert_eq!(inn.verb("unload", &[("model", "smollm2")]).0, 200);
    let (_, at_most) = planned(&inn, "smollm2", long);
    let pid = load(&inn, "smollm2", long);
    let peak = peak(pid, || fill_chat(&inn, long));
    let off = off(at_most, peak);
    println!("learned at {short}, tried at {long}: {off:+.1} %");
    assert!((-5.0..=5.0).contains(&off), "{off:+.1} % off");
}

#[test]
fn lessons_outlive_the_server_and_a_broken_file_of_them_is_set_aside_and_told() {
    let inn = Inn::open(&[]);
    let cold = planned(&inn, "smollm2", 2048);
    let pid = load(&inn, "smollm2", 2048);
    peak(pid, || fill_chat(&inn, 2048));
    assert_eq!(inn.verb("unload", &[("model", "smollm2")]).0, 200);
    let learned = planned(&inn, "smollm2", 2048);
    assert_ne!(cold, learned);
    let kept = inn.data.path().join("prepared/lessons.json");
    let bytes = |value: &Value| value.to_string();
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !fs::read_to_string(&kept).is_ok_and(|text| text.contains(&learned.0.to_string())) {
        assert!(std::time::Instant::now() < end, "nothing was kept");
        inn.verb("rescan", &[]);
    }
    let inn = inn.again();
    assert_eq!(planned(&inn, "smollm2", 2048), learned, "as it was before the restart");
    assert_ne!(bytes(&inn.model("smollm2")["prediction_error_percent"]), "null");
    fs::write(&kept, "{ not json").unwrap();
    let inn = inn.again();
    assert_eq!(planned(&inn, "smollm2", 2048), cold, "learned anew");
    let aside = kept.with_extension("json.unusable");
    assert_eq!(fs::read_to_string(aside).unwrap(), "{ not json");
}

#[test]
fn lessons_go_with_what_is_in_a_file_to_its_copy_and_past_another_date_and_never_to_other_contents() {
    let inn = Inn::open(&[]);
    load(&inn, "smollm2", 512);
    assert_eq!(inn.verb("unload", &[("model", "smollm2")]).0, 200);
    let taught = |model: &str| {
        let (status, plan) = inn.verb("plan", &[("model", model), ("context", "512")]);
        assert_eq!(status, 200, "{plan:#}");
        !plan["prediction"]["error_percent"].is_null()
    };
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        // Contents are read by a thread of the lowest priority, which gets what the other tests leave it.
        let end = std::time::Instant::now() + Duration::from_mins(5);
        while !is_so() {
            assert!(std::time::Instant::now() < end, "waited too long for {what}");
            std::thread::park_timeout(Duration::from_millis(50));
        }
    };
    let digests = || {
        let text = fs::read_to_string(inn.data.path().join("prepared/digests.json")).unwrap_or_default();
        serde_json::from_str::<Value>(&text).map_or(0, |kept| kept["facts"].as_object().unwrap().len())
    };
    let dated = |path: &std::path::Path, seconds: u64| {
        let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
        inn.verb("rescan", &[]);
    };
    until("the contents to be known", &|| digests() == 1);
    let twin = inn.data.path().join("models/twin.gguf");
    fs::copy(common::models().join("smollm2.gguf"), &twin).unwrap();
    dated(&twin, 1_000_000);
    until("the copy to be known", &|| taught("twin"));
    dated(&twin, 2_000_000);
    until("the other date to be known", &|| digests() == 3);
    until("its lessons", &|| taught("twin"));
    // One bit of its last weight.
    let file = fs::File::options().read(true).write(true).open(&twin).unwrap();
    let (last, mut byte) = (file.metadata().unwrap().len() - 1, [0]);
    file.read_exact_at(&mut byte, last).unwrap();
    file.write_all_at(&[byte[0] ^ 1], last).unwrap();
    dated(&twin, 3_000_000);
    assert!(!taught("twin"), "as far as is known");
    until("the other contents to be known", &|| digests() == 4);
    inn.verb("rescan", &[]);
    assert!(!taught("twin"), "and as is known then");
    assert!(taught("smollm2"));
}
