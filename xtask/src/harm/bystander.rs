//! A loaded model that answers while broken files are looked into and loaded beside it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use fixtures::{Counting, Random, break_gguf};

use super::{
    Ground,
    clients::{self, End},
    inn::{Inn, Shelf},
    processes::now,
    report::{Figures, Outcome, ms},
};

pub(super) fn bystander(ground: &Ground<'_>, random: &mut Random) -> Result<Outcome> {
    const TOKENS: usize = 300;
    let files = ground.amount(40, 400);
    let one = Counting::new(0);
    let shelf = Shelf::new(&[("one", one)])?;
    let mut inn = Inn::open(ground, &shelf)?;
    let worker = inn.load("one")?;
    // Room may be made for a file that claims to be large; this one is not to go for it.
    let (status, answer) = inn.verb("pin", "model=one&pinned=true")?;
    ensure!(status == 200, "{answer}");
    let over = Arc::new(AtomicBool::new(false));
    let (port, stop) = (inn.port, Arc::clone(&over));
    let asking = thread::spawn(move || {
        let (mut answers, mut longest) = (0_u64, Duration::ZERO);
        while !stop.load(Ordering::Acquire) {
            let began = now();
            let heard = clients::chat(port, "one", one, 2, TOKENS, |_| {});
            if heard.fault(one, 2, TOKENS).is_some() || heard.end != End::Done("length".into()) {
                return Err(heard);
            }
            answers += 1;
            longest = longest.max(began.elapsed());
        }
        Ok((answers, longest))
    });
    let tried = try_all(&inn, &shelf, files, random);
    over.store(true, Ordering::Release);
    let asked = asking.join().map_err(|_| anyhow::anyhow!("the client broke"))?;
    let refused = tried?;
    let (answers, longest) = asked.map_err(|heard| anyhow::anyhow!("the loaded model: {heard:?}"))?;
    ensure!(answers > 0, "nobody asked the loaded model meanwhile");
    ensure!(inn.lives(), "the server ended");
    ensure!(inn.worker("one")? == worker, "the loaded model's worker was replaced");
    let (_, snapshot) = inn.get("/manage/snapshot")?;
    let receipts = snapshot["receipts"].as_array().context("no receipts")?;
    ensure!(
        receipts.iter().all(|receipt| receipt["model"] != "one"),
        "the loaded model was unloaded: {receipts:?}"
    );
    Figures::default()
        .with("files", files)
        .with("refused", refused)
        .with("answers_beside_them", answers)
        .with("answer_max_ms", ms(longest))
        .with("server_exits", 0)
        .held()
}

/// Puts one file after another onto the shelf, and asks for its load. How many were refused.
fn try_all(inn: &Inn, shelf: &Shelf, files: usize, random: &mut Random) -> Result<usize> {
    let mut refused = 0;
    for number in 0..files {
        let name = format!("broken{number}");
        shelf.put(&name, &break_gguf(random))?;
        let began = now();
        let (status, answer) = inn.verb("rescan", "")?;
        ensure!(status == 200, "the look at {name} was answered {status}: {answer}");
        let (status, answer) = inn.verb("load", &format!("model={name}&wait=true"))?;
        ensure!(began.elapsed() < Duration::from_secs(30), "{name} took {:?}", began.elapsed());
        // Neither a fault of ours, nor unknown: then it was not tried.
        ensure!(![404, 409, 500].contains(&status), "{name} was answered {status}: {answer}");
        refused += usize::from(status != 200);
        if status == 200 {
            // One whose breakage is in its weights loads, and may do so.
            inn.verb("unload", &format!("model={name}&force=true"))?;
        }
    }
    Ok(refused)
}
